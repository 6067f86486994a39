"""``mandheling devices`` and ``mandheling models``: what there is to choose from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.cli_common import (
    HVX_ONLY,
    BatchOption,
    ImageOption,
    JsonOption,
    deliver,
    hvx_only,
    load_device,
    manifest,
    stdout_console,
)

if TYPE_CHECKING:
    from cost_models.device import Device
    from sim.model import ForwardModel


def devices(
    name: Annotated[
        str | None, typer.Argument(metavar="[DEVICE]", help="A device or a .yaml file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the devices, or one device's numbers with their sources."""
    from cost_models.device import device_names, mcu_names

    if name is None:
        found = [device_facts(load_device(one)) for one in (*device_names(), *mcu_names())]
        deliver({"devices": found, "manifest": manifest()}, as_json, None)
        if not as_json:
            _print_devices(found)
        return
    device = load_device(name)
    document = {
        **device_facts(device),
        "notes": list(device.notes),
        "calibrations": [use.model_dump(mode="json") for use in device.bundles],
        "calibration_notes": device.calibration_notes(),
        "quantities": numbers(device),
    }
    deliver({**document, "manifest": manifest(device=device)}, as_json, None)
    if not as_json:
        _print_device(document)


def device_facts(device: Device) -> dict[str, Any]:
    """Return a device in a few words, and how many of its numbers have which evidence."""
    kinds = [quantity.kind for quantity in device.quantities().values()]
    dsp = device.dsp
    return {
        "name": device.name,
        "soc": device.soc,
        "description": device.description,
        "sha256": device.sha256,
        "dsp": None if dsp is None else dsp.arch,
        "dsp_contexts": None if dsp is None else dsp.contexts,
        "vtcm_bytes": None if dsp is None else int(dsp.vtcm_bytes.value),
        "hvx_only": hvx_only(device),
        "gpu": None if device.gpu is None else device.gpu.name,
        "kinds": {k: kinds.count(k) for k in ("measured", "published", "derived", "assumed")},
    }


def numbers(device: Device) -> dict[str, Any]:
    """Return each number of a device by its dotted path; a table counts as its last row."""
    return {
        path: {
            "value": int(q.value) if q.value.is_integer() else q.value,
            "unit": q.unit,
            "kind": q.kind,
            "spread": q.factor,
            "source": q.source,
        }
        for path, q in device.quantities().items()
    }


def _print_devices(found: list[dict[str, Any]]) -> None:
    from experiments.render import kib, line, show, table

    rows = []
    for one in found:
        kinds = one["kinds"]
        dsp = f"{one['dsp']} x{one['dsp_contexts']}" if one["dsp"] else "-"
        vtcm = kib(one["vtcm_bytes"]) if one["vtcm_bytes"] else "-"
        rows.append((one["name"], one["soc"], dsp, vtcm, *(str(kinds[k]) for k in kinds)))
    columns = ("device", "SoC", "DSP", "VTCM KiB", "measured", "published", "derived", "assumed")
    show(
        stdout_console(),
        table("Devices, and how many of their numbers are known how", columns, rows, left=3),
        "`mandheling devices NAME` lists each number with its source.",
    )
    without = [one["name"] for one in found if one["hvx_only"]]
    line(stdout_console(), f"{HVX_ONLY}: {', '.join(without)}")


def _print_device(document: dict[str, Any]) -> None:
    from experiments.render import line, show, table

    console = stdout_console()
    sources: dict[str, int] = {}
    rows = []
    for path, fact in document["quantities"].items():
        note = sources.setdefault(fact["source"], len(sources) + 1)
        rows.append((path, f"{fact['value']:.10g}", fact["unit"], fact["kind"], f"[{note}]"))
    columns = ("constant", "value", "unit", "kind", "note")
    title = f"{document['name']}: {document['soc']}"
    show(console, document["description"], table(title, columns, rows, also_left=(2, 3)))
    show(console, "A table of values shows its last row. Sources:")
    for source, note in sources.items():
        line(console, f"[{note}] {source}")
    if document["hvx_only"]:
        line(console, HVX_ONLY)
    for note_text in document["notes"]:
        line(console, f"Note: {note_text}")
    for note_text in document["calibration_notes"]:
        line(console, f"Calibration fitted on something else: {note_text}")


def models(
    name: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="A model or an .onnx file.")
    ] = None,
    batch: BatchOption = 1,
    image: ImageOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the models, or one model's layers."""
    if name is None:
        found = _all_models()
        deliver({"models": found, "manifest": manifest()}, as_json, None)
        if not as_json:
            _print_models(found)
        return
    document = model_document(_model(name, batch, image))
    deliver({**document, "manifest": manifest()}, as_json, None)
    if not as_json:
        _print_model(document)


def _model(name: str, batch: int, image: int | None) -> ForwardModel:
    from pathlib import Path

    from experiments.cli_common import CliError
    from sim.onnx_import import import_onnx
    from sim.zoo import load_model

    if not name.endswith(".onnx"):
        return load_model(name, batch, image)
    if image is not None:
        raise CliError(f"--image {image}: {name} fixes its own image size; leave --image out")
    return import_onnx(Path(name), batch)


def _all_models() -> list[dict[str, Any]]:
    from sim.zoo import load_model, model_info, model_names

    rows = []
    for name in model_names():
        info, model = model_info(name), load_model(name, 1)
        rows.append(
            {
                "name": name,
                "description": info.description,
                "image": info.image,
                "channels": info.channels,
                "classes": info.classes,
                "layers": len(model.layers),
                "params": model.params,
                "macs": model.macs,
                "source": info.source,
                "published_params": info.params.value,
                "published_macs": info.macs.value,
                "published_source": info.params.source,
            }
        )
    return rows


def model_document(model: ForwardModel) -> dict[str, Any]:
    """Return a model and its layers for JSON; MACs are of one forward sample."""
    from kernels.operators import Role

    return {
        "name": model.name,
        "source": model.source,
        "batch": model.batch,
        "params": model.params,
        "macs": model.macs,
        "layers": [
            {
                "name": layer.name,
                "kind": layer.op.kind,
                "inputs": list(layer.inputs),
                "output": list(layer.op.output),
                "params": layer.op.params,
                "macs": layer.op.work(Role.FORWARD).macs // model.batch,
            }
            for layer in model.layers
        ],
    }


def _print_models(found: list[dict[str, Any]]) -> None:
    from experiments.render import line, show, table

    sources: dict[str, int] = {}
    rows = []
    for one in found:
        note = sources.setdefault(one["source"], len(sources) + 1)
        size = f"{one['channels']}x{one['image']}x{one['image']}"
        counts = (f"{one['params']:,}", f"{one['macs']:,}")
        rows.append((one["name"], size, str(one["layers"]), *counts, f"[{note}]"))
    columns = ("model", "input", "layers", "parameters", "MACs per sample", "source")
    console = stdout_console()
    show(console, table("Models", columns, rows, left=2))
    for source, note in sources.items():
        line(console, f"[{note}] {source}")


def _print_model(document: dict[str, Any]) -> None:
    from experiments.render import show, table

    rows = [
        (
            layer["name"],
            layer["kind"],
            "x".join(map(str, layer["output"])),
            f"{layer['params']:,}" if layer["params"] else "-",
            f"{layer['macs']:,}" if layer["macs"] else "-",
        )
        for layer in document["layers"]
    ]
    columns = ("layer", "kind", "output", "parameters", "MACs per sample")
    show(
        stdout_console(),
        table(f"{document['name']} ({document['source']})", columns, rows, left=3),
        f"{document['params']:,} parameters, {document['macs']:,} MACs per forward sample",
    )
