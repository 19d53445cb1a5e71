"""`python -m tests.deploy.install`: writes what in deploy/ follows from other files there. That it is up to date is a test."""

import io

from ruamel.yaml import YAML

from tests.deploy.rendering import DEPLOY, INSTALL, KUSTOMIZE, Doc, load, rendered

RULES = KUSTOMIZE / "components/monitoring/rules.yaml"

HEAD = f"""\
# Written by `python -m tests.deploy.install`: deploy/kustomize/overlays/{INSTALL}, rendered. Before it is applied, put in its
# place what is yours: the name and digest of the images (harbor.example.internal, zeros), and what ends in example.internal.
"""


def rules() -> Doc:
    """The rules of Prometheus as its operator reads them."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "yiqi", "namespace": "yiqi", "labels": {"app.kubernetes.io/part-of": "yiqi"}},
        "spec": load(DEPLOY / "prometheus/rules.yaml"),
    }


def main() -> None:
    made = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style, yaml.allow_unicode, yaml.width = False, True, 10_000
    yaml.dump(rules(), made)
    RULES.write_text(
        "# Written by `python -m tests.deploy.install`: deploy/prometheus/rules.yaml is what to change.\n"
        + made.getvalue()
    )
    (DEPLOY / "install.yaml").write_text(HEAD + rendered(INSTALL))


if __name__ == "__main__":
    main()
