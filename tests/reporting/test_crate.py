"""The run folder as an RO-Crate: an independent validator of the Workflow Run Crate profile finds nothing wrong, each
file is there with its checksum, and nothing tells where the images lay.
"""

import json
import shutil
from pathlib import Path

import pytest
from conftest import needs_rocrate

from leuknb.core import sha256_file
from leuknb.reporting.crate import SHA256, write_crate
from leuknb.settings import Settings

# the terms of RO-Crate 1.1 that a crate of ours uses; the validator would fetch them from the outside
SCHEMA = """ComputerLanguage CreateAction CreativeWork Dataset Person PropertyValue SoftwareApplication
SoftwareSourceCode about actionStatus additionalType agent author contentSize datePublished description encodingFormat
endTime exampleOfWork hasPart identifier instrument license mainEntity mentions name object programmingLanguage result
softwareRequirements softwareVersion subjectOf url value valueRequired version workExample""".split()
CONTEXT = {**{term: f"http://schema.org/{term}" for term in SCHEMA}, "File": "http://schema.org/MediaObject",
           "ComputationalWorkflow": "https://bioschemas.org/ComputationalWorkflow",
           "FormalParameter": "https://bioschemas.org/FormalParameter",
           "input": "https://bioschemas.org/ComputationalWorkflow#input",
           "conformsTo": "http://purl.org/dc/terms/conformsTo"}


@pytest.fixture(scope="module")
def crate(small_report, tmp_path_factory):
    "A copy of the small report, described again with authors and images that lay in somebody's folder."
    needs_rocrate()
    folder = Path(shutil.copytree(small_report.folder, tmp_path_factory.mktemp("crate") / "run"))
    facts = json.loads((folder / "run.json").read_text())
    facts["settings"] |= {"data": "/home/ada/secret/smears",
                          "authors": ["Ada Byron <https://orcid.org/0000-0002-1825-0097>", "Mary King"]}
    (folder / "run.json").write_text(json.dumps(facts))
    return write_crate(folder)


def described(crate):
    return {e["@id"]: e for e in json.loads(crate.read_text())["@graph"]}


def test_the_report_writes_its_crate(small_report):
    needs_rocrate()
    assert described(small_report.folder / "ro-crate-metadata.json")["./"]["mainEntity"] == {"@id": "report.ipynb"}


def test_every_file_of_the_run_is_described_with_its_size_and_checksum(crate):
    said, folder = described(crate), crate.parent
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {crate.name}
    assert {part["@id"] for part in said["./"]["hasPart"]} == files == {r["@id"] for r in said["#run"]["result"]}
    for name in files:
        assert said[name]["sha256"] == sha256_file(folder / name) and said[name]["contentSize"] == str(
            (folder / name).stat().st_size)
    assert len(files) > 20


def test_inputs_parameters_software_and_people_are_named_and_no_path_of_the_machine(crate):
    said = described(crate)
    facts = json.loads((crate.parent / "run.json").read_text())
    assert {p["@id"] for p in said["report.ipynb"]["input"]} == {
        f"#parameter-{name}" for name in Settings.model_fields if name != "out"}
    assert said["#value-seed"]["value"] == 0 and said["#value-data"]["value"] == "smears"
    assert said["#images"]["identifier"] == facts["fingerprint"]
    assert [p["@id"] for p in said["./"]["author"]] == ["https://orcid.org/0000-0002-1825-0097", "#author-2"]
    assert said["#software-torch"]["softwareVersion"] == facts["versions"]["torch"]
    assert "secret" not in crate.read_text()


def test_every_term_is_one_of_the_context_and_every_reference_leads_somewhere(crate):
    content = json.loads(crate.read_text())
    assert content["@context"] == ["https://w3id.org/ro/crate/1.1/context", {"sha256": SHA256}]
    said = described(crate)
    for entity in content["@graph"]:
        kinds = entity["@type"] if isinstance(entity["@type"], list) else [entity["@type"]]
        assert {*entity, *kinds} - {"@id", "@type", "sha256"} <= CONTEXT.keys(), entity["@id"]
        for value in entity.values():
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, dict): assert one["@id"] in said or one["@id"].startswith("http"), one


def test_a_validator_of_the_profile_finds_nothing_that_is_required_and_missing(crate, monkeypatch):
    pytest.importorskip("rocrate_validator", reason="roc-validator is not installed")
    from rocrate_validator import models, services
    from rocrate_validator.utils.http import HttpRequester

    class Sent:
        "The answer of the server of the context, which is not asked."
        status_code, ok, headers, text = 200, True, {"Content-Type": "application/ld+json"}, json.dumps(
            {"@context": CONTEXT})

        def json(self): return json.loads(self.text)

    monkeypatch.setattr(HttpRequester, "get", lambda self, url, **how: Sent(), raising=False)

    def wrong(folder):
        found = services.validate(services.ValidationSettings(
            rocrate_uri=str(folder), profile_identifier="workflow-run-crate-0.5",
            requirement_severity=models.Severity.REQUIRED))
        return [(i.check.identifier, i.message) for i in found.get_issues()]

    assert wrong(crate.parent) == []
    content = json.loads(crate.read_text())
    for entity in content["@graph"]:
        if entity["@id"] == "./": del entity["license"]
    broken = Path(shutil.copytree(crate.parent, crate.parent.parent / "broken"))
    (broken / crate.name).write_text(json.dumps(content))
    assert any("license" in message for _, message in wrong(broken)), "the validator sees what it looks for"
