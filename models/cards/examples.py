"""The examples in cards, in which `MODEL` stands for the model's place."""

from aalbert.models.cards.downstream import CLASSIFIER_USAGE, VERIFICATION_USAGE
from aalbert.models.cards.pretrained import CARD

MODEL = "MODEL"
TRANSFORMERS_CLASS = "AutoModel"
# Words of users may have the same word in other lines.
EXAMPLE_LINES = frozenset(
    line
    for text in (CARD, CLASSIFIER_USAGE, VERIFICATION_USAGE)
    for line in text.splitlines()
    if MODEL in line
)
