"""The JSON schema of sweep files: what an editor completes and checks while a sweep is written.

It ships as `sweep.schema.json` beside this file; `python -m scaling.launch --print-schema` prints the same text. A
sweep whose first line names it is completed by every editor with a YAML language server:

    # yaml-language-server: $schema=../scaling/spec/sweep.schema.json
"""

import json
from pathlib import Path
from typing import Any

from scaling.spec.settings import RunSettings
from scaling.spec.study import ConstantEpochs, ConstantSteps, MatchedCompute, Study

SHIPPED = Path(__file__).with_name("sweep.schema.json")

_PROTOCOLS = (ConstantSteps, ConstantEpochs, MatchedCompute)


def sweep_schema() -> dict[str, Any]:
    """The schema of `Study`, with the settings of a run spelled out wherever a sweep may write them."""
    schema = Study.model_json_schema()
    run = RunSettings.model_json_schema(ref_template="#/$defs/{model}")
    settings = dict(run["properties"])
    for protocol in _PROTOCOLS:
        fields = protocol.model_json_schema()["properties"]
        settings |= {f"protocol.{name}": field for name, field in fields.items() if name != "kind"}
    schema["$defs"] |= run.get("$defs", {})
    schema["$defs"]["RunSetting"] = {"type": "object", "properties": settings, "additionalProperties": False}
    one = {"$ref": "#/$defs/RunSetting"}
    axes = {
        "type": "object",
        "properties": {
            name: {"type": "array", "items": field, "description": field.get("description", "")}
            for name, field in settings.items()
        },
        "additionalProperties": False,
    }
    properties = schema["properties"]
    sections: dict[str, dict[str, Any]] = {"defaults": one, "grid": axes, "zip": axes}
    for name, body in sections.items():
        properties[name] = body | {"description": properties[name]["description"]}
    properties["include"]["items"] = one
    schema["$defs"]["OverrideSpec"]["properties"]["set"] = one
    tune = schema["$defs"]["TuneSpec"]["properties"]
    searched = {"$ref": "#/$defs/Searched"}
    tune["set"] = one | {"description": tune["set"]["description"]}
    tune["space"] = {
        "type": "object",
        "properties": {
            name: searched | {"description": field.get("description", "")} for name, field in settings.items()
        },
        "additionalProperties": False,
        "description": tune["space"]["description"],
    }
    schema["title"] = "A sweep of scaling-study"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def schema_text() -> str:
    """The shipped file's content."""
    return json.dumps(sweep_schema(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
