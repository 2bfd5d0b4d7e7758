"""The page and the figures that the reports of pretraining and evaluation share."""
