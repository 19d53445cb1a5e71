"""The bill of materials of the image, CycloneDX 1.6: Python distributions and Debian packages as they are installed.

It names no registry: packages by purl, wheels by hash. Where it goes is in `bundle.py`.
"""

import hashlib
from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import Distribution, distributions
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL


def sbom(rootfs: Path, wheels: Path, *, version: str, digest: str, made: datetime) -> str:
    """The same image gives the same text."""
    image = Component(
        name="yiqi",
        version=version,
        type=ComponentType.CONTAINER,
        bom_ref="image",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest.removeprefix("sha256:"))],
    )
    parts = [*_python(rootfs, wheels), *_debian(rootfs)]
    bom = Bom(
        components=parts,
        metadata=BomMetaData(component=image, timestamp=made),
        serial_number=uuid5(NAMESPACE_OID, digest),
    )
    bom.register_dependency(image, parts)
    return JsonV1Dot6(bom).output_as_string(indent=1) + "\n"


def _python(rootfs: Path, wheels: Path) -> Iterator[Component]:
    folders = [rootfs / "opt" / "yiqi", *rootfs.glob("opt/venv/lib/python3.*/site-packages")]
    for found in distributions(path=[str(folder) for folder in folders]):
        name, version = found.name.lower().replace("_", "-").replace(".", "-"), found.version
        yield Component(
            name=name,
            version=version,
            type=ComponentType.LIBRARY,
            bom_ref=f"python/{name}",
            purl=PackageURL("pypi", None, name, version),
            licenses=[DisjunctiveLicense(name=told)] if (told := _licence(found)) else None,
            hashes=[
                HashType(alg=HashAlgorithm.SHA_256, content=hashlib.sha256(wheel.read_bytes()).hexdigest())
                for wheel in sorted(wheels.glob(f"{name.replace('-', '_')}-{version}-*.whl"))
            ],
        )


def _licence(found: Distribution) -> str | None:
    """As its authors declare it; an expression where they have one."""
    told = found.metadata.json
    if expression := told.get("license_expression"):
        return str(expression)
    classified = [
        c.rpartition(" :: ")[2]
        for c in told.get("classifier", ())
        if c.startswith("License :: OSI Approved :: ")
    ]
    return "; ".join(classified) or str(told.get("license", "")).partition("\n")[0][:80] or None


def _debian(rootfs: Path) -> Iterator[Component]:
    status = (rootfs / "var/lib/dpkg/status").read_text(encoding="utf-8")
    for paragraph in status.strip().split("\n\n"):
        told = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        yield Component(
            name=told["Package"],
            version=told["Version"],
            type=ComponentType.LIBRARY,
            bom_ref=f"debian/{told['Package']}",
            purl=PackageURL(
                "deb", "debian", told["Package"], told["Version"], {"arch": told["Architecture"]}
            ),
        )
