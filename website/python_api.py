"""The pages of the Python interface: which names are public, by the room that has them."""

from collections.abc import Sequence
from dataclasses import dataclass

import aalbert
import aalbert.models
import aalbert.shards


@dataclass(frozen=True)
class ApiPage:
    """A page about names of the package; `names` are dotted."""

    title: str
    introduction: str
    names: Sequence[str]

    def markdown(self) -> str:
        """Return the page, on which mkdocstrings replaces each line that begins with colons."""
        names = "\n\n".join(f"::: {name}" for name in self.names)
        return f"# {self.title}\n\n{self.introduction}\n\n{names}\n"


def exported(module: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the dotted names that a module exports."""
    return tuple(f"{module}.{name}" for name in names if not name.startswith("__"))


API_PAGES = {
    "api/aalbert.md": ApiPage(
        "aalbert",
        "Models of any origin, for recordings: `import aalbert`. Examples: "
        "[embeddings](../embeddings.md), [predictions](../predict.md).",
        exported("aalbert", aalbert.__all__),
    ),
    "api/shards.md": ApiPage(
        "aalbert.shards",
        "Prepared data, and batches of it. Examples: [the loader](../loader.md).",
        exported("aalbert.shards", aalbert.shards.__all__),
    ),
    "api/models.md": ApiPage(
        "aalbert.models",
        "Front end, encoder, heads, and their checkpoints. Examples: [models](../models.md).",
        exported("aalbert.models", aalbert.models.__all__),
    ),
    "api/pipeline.md": ApiPage(
        "aalbert.pipeline",
        "Corpora, and how they become shards. Example: [preparing](../prepare.md#in-python).",
        (
            "aalbert.pipeline.corpora.corpus.Corpus",
            "aalbert.pipeline.corpora.corpus.Utterance",
            "aalbert.pipeline.corpora.corpus.Skip",
            "aalbert.pipeline.corpora.librispeech.read_librispeech",
            "aalbert.pipeline.corpora.voxceleb1.read_voxceleb1",
            "aalbert.pipeline.corpora.folder.FolderOptions",
            "aalbert.pipeline.corpora.folder.read_folder",
            "aalbert.pipeline.corpora.manifest_file.read_manifest_file",
            "aalbert.pipeline.corpora.synthesis.write_librispeech",
            "aalbert.pipeline.corpora.synthesis.write_voxceleb1",
            "aalbert.pipeline.prepare.recipe.Recipe",
            "aalbert.pipeline.prepare.recipe.load_recipe",
            "aalbert.pipeline.prepare.config.PrepareConfig",
            "aalbert.pipeline.prepare.prepare.PrepareLimits",
            "aalbert.pipeline.prepare.prepare.prepare",
        ),
    ),
    "api/train.md": ApiPage(
        "aalbert.train",
        "Runs of pretraining and of tasks, and their evaluation. Examples: "
        "[evaluating](../evaluate.md#in-python).",
        (
            "aalbert.train.recipes.read_pretrain_recipe",
            "aalbert.train.recipes.read_task_recipe",
            "aalbert.train.pretraining.run.start_pretraining",
            "aalbert.train.pretraining.run.resume_pretraining",
            "aalbert.train.downstream.run.start_downstream",
            "aalbert.train.downstream.run.resume_downstream",
            "aalbert.train.downstream.build.find_task_data",
            "aalbert.train.downstream.build.find_inputs",
            "aalbert.train.downstream.build.find_frame_labels",
            "aalbert.train.evaluation.evaluate.evaluate_runs",
            "aalbert.train.evaluation.evaluate.compare_evaluations",
            "aalbert.train.evaluation.evaluate.Evaluation",
            "aalbert.train.evaluation.report.write_reports",
            "aalbert.train.evaluation.frame_probes.probe_frames",
            "aalbert.train.downstream.error_rates",
            "aalbert.train.downstream.likelihood_ratios",
            "aalbert.train.evaluation.significance",
        ),
    ),
    "api/settings.md": ApiPage(
        "Settings",
        "What `--set NAME=VALUE`, `--config FILE` and the environment reach: the fields of these "
        "classes, and their defaults. `aalbert config show` prints those of a preset.",
        (
            "aalbert.train.pretraining.config.PretrainConfig",
            "aalbert.train.pretraining.config.PretrainDataConfig",
            "aalbert.train.pretraining.config.MaskingConfig",
            "aalbert.train.pretraining.config.ObjectiveConfig",
            "aalbert.train.pretraining.config.CodesConfig",
            "aalbert.train.loop.config.OptimiserConfig",
            "aalbert.train.downstream.config.DownstreamConfig",
            "aalbert.train.downstream.config.SplitConfig",
            "aalbert.train.downstream.config.LabelConfig",
            "aalbert.train.downstream.config.TrialConfig",
            "aalbert.train.downstream.config.RegressionConfig",
            "aalbert.train.downstream.config.FineTuningConfig",
            "aalbert.train.downstream.config.BaselineConfig",
            "aalbert.shards.format.feature_settings.LogMelSettings",
            "aalbert.shards.format.feature_settings.LinearSettings",
            "aalbert.shards.format.feature_settings.FbankSettings",
            "aalbert.shards.format.feature_settings.MfccSettings",
            "aalbert.shards.format.wave_settings.WaveSettings",
            "aalbert.shards.format.wave_settings.SilenceSettings",
        ),
    ),
    "api/errors.md": ApiPage(
        "aalbert.errors",
        "What a user can meet, each with the exit code that the command line gives.",
        ("aalbert.errors",),
    ),
}
