"""The drawn figures of the documents; `python -m website.figures` writes them."""

from itertools import pairwise
from pathlib import Path

from website.drawing import FRAME, HIDDEN, PREDICTED, STRONG, WARM, Box, Drawing

IMAGES = Path(__file__).parent.parent / "docs" / "images"
MASKED = (3, 4, 8, 12, 13)
FRAMES = 16
STATES = ("state 0", "state 1", "state 2", "...", "state N")


def frames_with(masked: str) -> list[str]:
    """Return the colours of a row of frames, of which some are hidden or predicted."""
    return [masked if number in MASKED else FRAME for number in range(FRAMES)]


def draw_model() -> Drawing:
    """Draw the model: one layer applied several times, its pretraining and its use."""
    drawing = Drawing("One layer, applied N times; pretraining, and a head on its states", 660, 740)
    features = drawing.box(Box(x=20, y=10, width=400, height=56), "features", "(frames, 80)")
    front = drawing.box(
        Box(x=20, y=96, width=400, height=56), "front end", "normalise; stack 3 frames into one"
    )
    hidden = drawing.frames(Box(x=60, y=182, width=320, height=30), frames_with(HIDDEN))
    masked = drawing.box(
        Box(x=440, y=169, width=210, height=56), "pretraining only", "some frames are hidden"
    )
    projection = drawing.box(
        Box(x=20, y=242, width=400, height=44), "projection, and positions added"
    )
    layer = drawing.box(
        Box(x=20, y=356, width=340, height=120),
        "one Transformer layer",
        "self-attention over all frames",
        "feed-forward",
        "the same weights every time",
        colours=STRONG,
    )
    states = [
        drawing.box(Box(x=470, y=262 + 48 * number, width=140, height=36), name)
        for number, name in enumerate(STATES)
    ]
    head = drawing.box(
        Box(x=20, y=530, width=340, height=56), "reconstruction head", "not used afterwards"
    )
    predicted = drawing.frames(Box(x=30, y=612, width=320, height=30), frames_with(PREDICTED))
    loss = drawing.box(
        Box(x=20, y=668, width=340, height=56),
        "pretraining: loss",
        "where frames were hidden",
        colours=WARM,
    )
    mix = drawing.box(Box(x=440, y=530, width=210, height=44), "learned mix of states")
    task = drawing.box(Box(x=440, y=598, width=210, height=44), "pooling, and a head")
    answer = drawing.box(
        Box(x=440, y=668, width=210, height=56), "downstream", "speaker, phone", colours=WARM
    )
    for before, after in ((features, front), (front, hidden), (predicted, loss), (head, predicted)):
        drawing.arrow(before.bottom, after.top)
    for before, after in ((mix, task), (task, answer)):
        drawing.arrow(before.bottom, after.top)
    drawing.arrow(masked.left, hidden.right)
    drawing.arrow(hidden.bottom, projection.top)
    drawing.arrow((120, 286), (120, 356))
    drawing.arrow(layer.right, (410, 416), (410, 321), (260, 321), (260, 356))
    drawing.box(Box(x=280, y=305, width=120, height=32), "N times")
    drawing.arrow((420, 264), (445, 264), (445, 280), states[0].left)
    drawing.line((410, 416), (440, 416))
    drawing.arrow((440, 416), (440, 328), states[1].left)
    drawing.arrow((440, 376), states[2].left)
    drawing.arrow((440, 416), (440, 472), states[4].left)
    drawing.arrow(layer.bottom, head.top)
    for state in states[1:]:
        drawing.line(state.right, (632, state.right[1]))
    drawing.arrow(states[0].right, (632, 280), (632, 530))
    return drawing


def draw_data() -> Drawing:
    """Draw the way of the data, from recordings to reports, with the commands on it."""
    drawing = Drawing("From recordings to a report, and the command of each step", 660, 740)
    recordings = drawing.box(
        Box(x=60, y=10, width=370, height=60),
        "recordings",
        "LibriSpeech, VoxCeleb1, folders, tables",
    )
    prepare = drawing.box(command_place(94), "aalbert prepare", colours=STRONG)
    dataset = drawing.box(
        Box(x=60, y=158, width=370, height=60),
        "dataset",
        "tar shards of features, an Arrow index",
    )
    loader = drawing.box(Box(x=60, y=242, width=370, height=40), "loader: ordered batches")
    pretrain = drawing.box(command_place(306), "aalbert pretrain", colours=STRONG)
    pretrained = drawing.box(
        Box(x=60, y=370, width=370, height=60),
        "pretrained model",
        "model.safetensors, config.json, card",
    )
    downstream = drawing.box(command_place(454), "aalbert downstream", colours=STRONG)
    model = drawing.box(
        Box(x=60, y=518, width=370, height=60), "model of a task", "the encoder with a head"
    )
    evaluate = drawing.box(command_place(602), "aalbert evaluate", colours=STRONG)
    results = drawing.box(
        Box(x=60, y=666, width=370, height=60),
        "results",
        "metrics.json, report.html, comparison.html",
    )
    way = (
        recordings,
        prepare,
        dataset,
        loader,
        pretrain,
        pretrained,
        downstream,
        model,
        evaluate,
        results,
    )
    for before, after in pairwise(way):
        drawing.arrow(before.bottom, after.top)
    for step in (downstream, evaluate):
        drawing.arrow(loader.left, (26, loader.left[1]), (26, step.left[1]), step.left)
    for place, lines in (
        (pretrained, ("embeddings", "aalbert extract")),
        (model, ("predictions", "aalbert predict")),
    ):
        use = drawing.box(Box(x=470, y=place.y, width=170, height=60), *lines)
        drawing.arrow(place.right, use.left)
    return drawing


def command_place(y: float) -> Box:
    """Return the place of a command on the way."""
    return Box(x=145, y=y, width=200, height=40)


FIGURES = {"model.svg": draw_model, "data.svg": draw_data}

if __name__ == "__main__":
    for name, draw in FIGURES.items():
        (IMAGES / name).write_text(draw().svg())
