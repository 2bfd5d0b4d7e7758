"""Online work: configs, pretraining, downstream tasks, evaluation and reports."""
