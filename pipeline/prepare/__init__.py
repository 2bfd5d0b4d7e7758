"""`aalbert prepare`: the plan, its tasks, who computes them, and how a dataset is finished."""
