"""What comes of a model on a part of the data: an outcome, of one of several kinds.

Every kind has a `measure` and its `value`, the `rows` that were tested, its `counts` and a `table`.
Those that are `Tallied` have entries of utterances whose `amounts` are added up and divided by the
number of `scored` items, and the `truth` that they are measured by; trials have none of single
utterances.
"""

from aalbert.train.downstream.decisions import Decisions
from aalbert.train.downstream.numbers import Numbers
from aalbert.train.downstream.recognition import Recognised
from aalbert.train.downstream.scoring import Trials

Tallied = Decisions | Numbers | Recognised
Outcome = Tallied | Trials
