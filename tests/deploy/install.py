"""`python -m tests.deploy.install`: writes `deploy/install.yaml`. That it is up to date is a test."""

from tests.deploy.rendering import DEPLOY, INSTALL, rendered

HEAD = f"""\
# Written by `python -m tests.deploy.install`: deploy/kustomize/overlays/{INSTALL}, rendered. Before it is applied, put in its
# place what is yours: the name and digest of the images (harbor.example.internal, zeros), and what ends in example.internal.
"""

if __name__ == "__main__":
    (DEPLOY / "install.yaml").write_text(HEAD + rendered(INSTALL))
