"""The bill of materials: every package in the bundle with version and licence, as CycloneDX JSON.

Owns: what of the licences' index is said in which field, and that the result is valid by CycloneDX's own schema. Runs
in `.venv-bundle`.
"""

import datetime
import hashlib
import json
import uuid
from pathlib import Path

import distributions
import licences
from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL


class BillError(Exception):
    """The bill is not valid; the text says where."""


def document(index: list[dict[str, str]], files: dict[str, str], epoch: int) -> str:
    """The bill of a bundle whose licences' `index` is given; `files`: {llama.cpp library: SHA-256}; `epoch`: seconds
    since 1970 that it is dated with. Raises BillError."""
    python = {distributions.name_of(each): each for each in distributions.bundled()}
    makers = LicenseFactory()
    bill = Bom()
    bill.metadata.timestamp = datetime.datetime.fromtimestamp(epoch, datetime.UTC)
    components: dict[str, Component] = {}
    for each in index:
        key = distributions.canonicalize_name(each["name"])
        program = key == distributions.PROGRAM
        component = Component(
            name=each["name"],
            version=each["version"],
            type=ComponentType.APPLICATION if program else ComponentType.LIBRARY,
            bom_ref=f"{key}@{each['version']}",
            purl=None if program else _address(key, each, key in python),
            licenses=[makers.make_from_string(each["licence"])],
        )
        components[key] = component
        if not program:
            bill.components.add(component)
    for name, digest in sorted(files.items()):
        file = Component(name=name, type=ComponentType.FILE, bom_ref=f"llama.cpp/{name}")
        file.hashes.add(HashType(alg=HashAlgorithm.SHA_256, content=digest))
        components[distributions.LLAMA].components.add(file)
    bill.metadata.component = root = components[distributions.PROGRAM]
    bill.register_dependency(root, bill.components)
    # The same materials, the same bill.
    facts = "\n".join(sorted(f"{each['name']} {each['version']}" for each in index) + sorted(files.values()))
    bill.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, facts)
    text = JsonV1Dot6(bill).output_as_string(indent=1)
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise BillError(f"the bill of materials is not valid CycloneDX: {error}")
    return text + "\n"


def write(path: Path, bundle: Path, epoch: int) -> None:
    """The bill of the bundle in a folder, as a file. Raises BillError, OSError."""
    index = json.loads((bundle / "_internal" / "licences" / licences.INDEX).read_text(encoding="utf-8"))
    libraries = (bundle / "_internal" / "llama_cpp" / "lib").iterdir()
    files = {
        each.name: hashlib.sha256(each.read_bytes()).hexdigest()
        for each in libraries
        if not each.is_symlink()
    }
    path.write_text(document(index, files, epoch), encoding="utf-8")


def _address(key: str, each: dict[str, str], python: bool) -> PackageURL:
    if python:
        return PackageURL("pypi", name=key, version=each["version"])
    if each["name"] in ("Python", "llama.cpp", licences.START_CODE):
        return PackageURL("generic", name=each["name"].split()[0].lower(), version=each["version"])
    return PackageURL("deb", namespace="debian", name=each["name"], version=each["version"])
