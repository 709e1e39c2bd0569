"""`edgeclf demo`: the main job on what the project ships."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from edgeclf_export.demo import export_sample, sample_parity, stream, write_demo_report
from edgeclf_export.parity.text import reasons_text, verdict
from edgeclf_export.shipped import find_samples
from edgeclf_runtime.console import json_option, progress, say, verbosity_options, write_json
from edgeclf_runtime.errors import CheckFailedError


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo_out"), show_default=True, metavar="DIR",
              help="Where the exported model, the predictions and the report go.")  # fmt: skip
@json_option
@verbosity_options
def demo(out: Path, json_path: str | None) -> None:
    """Export the sample checkpoint, stream the sample recording through it, check KPI parity, write the report.

    Example: edgeclf demo --out demo_out
    """
    samples = find_samples()
    say(f"1/3 exporting {samples.checkpoint.name} to ONNX and TorchScript, each run beside PyTorch …")
    model = export_sample(samples, out)
    say(f"2/3 streaming {samples.recording.name} …")
    streamed = stream(model, samples.recording, out / "predictions.jsonl")
    say("3/3 checking KPI parity with PyTorch …")
    parity = sample_parity(samples, model).run(progress)
    write_demo_report(out / "report.html", samples, streamed, parity)
    accuracy = parity.kpis["accuracy"].exported
    if json_path is not None:
        document = {
            "model": str(model),
            "frames": len(streamed.predictions),
            "predictions": dict(streamed.counts.most_common()),
            "latency": None if streamed.latency is None else asdict(streamed.latency),
            "parity": parity.to_dict(),
        }
        write_json(json_path, document)
    if json_path != "-":
        counts = ", ".join(f"{label} {n}" for label, n in streamed.counts.most_common())
        click.echo(f"model: {model}")
        click.echo(f"stream: {len(streamed.predictions)} frames predicted ({counts})")
        click.echo(f"accuracy: {accuracy:.4f} of {parity.frames} frames")
        if streamed.latency is not None:
            click.echo(f"latency a frame: p50 {streamed.latency.p50_us:.0f} µs, p99 {streamed.latency.p99_us:.0f} µs")
        click.echo(f"report: {out / 'report.html'}")
        click.echo(f"parity: {verdict(bool(parity))}")
    if not parity:
        raise CheckFailedError(
            f"{model} is not the classifier that {samples.checkpoint} is in PyTorch: {reasons_text(parity)}."
        )
