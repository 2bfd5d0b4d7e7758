"""The stage `profile`: where the time of the fastest way to take a step goes."""

import sys
from itertools import islice
from pathlib import Path

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from aalbert.shards.loading.batch import Batch
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.pretraining.build import build_model, make_loaders, select_utterances
from aalbert.train.pretraining.module import Pretraining
from benchmarks.gpu.context import Context
from benchmarks.gpu.features import data_for, read_preset_config
from benchmarks.gpu.machine import wait_for
from benchmarks.gpu.steps import FIRST, WAYS, Way

TRACE_NAME = "trace.json.gz"
WARM_UP_STEPS, PROFILED_STEPS, TOP = 5, 3, 15


def run(context: Context) -> None:
    """Profile some steps; write the trace and the operations that take longest."""
    way = fastest_way(context)
    config = way.of(read_preset_config(FIRST, context), rehearsal=context.rehearsal)
    selections = select_utterances(config, [Dataset(data_for(config, context))])
    device = torch.device(context.device)
    module = Pretraining(build_model(config, selections), config).to(device)
    optimiser = module.configure_optimizers()["optimizer"]

    def step(batch: Batch) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16-mixed"):
            loss = module.training_step(batch.to(device), 0)
        torch.autograd.backward(loss)
        module.configure_gradient_clipping(optimiser)
        optimiser.step()
        optimiser.zero_grad()

    loader, _ = make_loaders(config, selections)
    batches = list(islice((batch for _ in range(100) for batch in loader), WARM_UP_STEPS))
    loader.close()
    for batch in batches:
        step(batch)
    wait_for(device)
    with profile(activities=activities(device)) as measured:
        for batch in batches[:PROFILED_STEPS]:
            step(batch)
        wait_for(device)
    trace = Path(context.out) / TRACE_NAME
    measured.export_chrome_trace(str(trace))
    context.write(
        kind="profile",
        preset=FIRST,
        way=way.name,
        steps=PROFILED_STEPS,
        trace_mib=round(trace.stat().st_size / 2**20, 2),
    )
    # On a GPU the kernels themselves, not the operations of PyTorch that start them.
    own_time, kind = (
        ("self_device_time_total", DeviceType.CUDA)
        if device.type == "cuda"
        else ("self_cpu_time_total", DeviceType.CPU)
    )
    times = {
        one.key: (getattr(one, own_time), one.count)
        for one in measured.key_averages()
        if one.device_type == kind and not one.is_user_annotation
    }
    if not times:
        sys.exit("the profiler recorded nothing of the device")
    total = sum(microseconds for microseconds, _ in times.values())
    for name, (microseconds, count) in sorted(times.items(), key=lambda item: -item[1][0])[:TOP]:
        context.write(
            kind="kernel",
            name=name[:160],
            ms_per_step=round(microseconds / 1000 / PROFILED_STEPS, 4),
            share=round(microseconds / total, 4),
            calls_per_step=round(count / PROFILED_STEPS, 1),
        )


def activities(device: torch.device) -> list[ProfilerActivity]:
    """Return what is recorded on a device."""
    both = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    return both if device.type == "cuda" else both[:1]


def fastest_way(context: Context) -> Way:
    """Return the way in which the first preset was fastest, packed if none was measured."""
    times = {
        line["way"]: line["step_s"] / line["audio_s"]
        for line in context.read("steps", "step")
        if line["preset"] == FIRST
    }
    return min(WAYS, key=lambda way: times.get(way.name, float("inf")))
