"""What the reports of pretraining and evaluation share: the page and its figures."""
