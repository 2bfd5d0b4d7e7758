"""Models without this package: a copy of these modules lies beside the weights of every model.

They import nothing of `aalbert`, only each other by relative imports, which `transformers` follows
from `modeling_aalbert.py`. Features, front end and encoder need PyTorch alone; `expert.py` and
`hubconf.py` are for s3prl, and lie only in what is exported to it.
"""
