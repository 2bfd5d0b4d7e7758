"""Models that need PyTorch alone: a copy of these modules lies beside the weights of every model.

They import nothing of this package, only each other by relative imports, which `transformers`
follows from `modeling_aalbert.py`.
"""
