"""Audio ALBERT: speech features computed once, a lite BERT pretrained on them, speakers identified.

The rooms of the package, from the bottom up: `shards` (features on disk) and
`models` (weights on disk), `pipeline` (audio to shards) and `train` (shards to
weights to reports), and the command line in `cli`.
"""

__version__ = "0.1.0"
