"""The files of a filing that are kept: fetched, looked at in the limited child, stored; each once, however often named.

What a workbook says is not read here (`packages.py`), nor is a file opened here (`child.py`).
"""

from dataclasses import dataclass, field

from services.intake import child, parse, store
from services.intake.sheets import Unusable, file_name
from shared.contracts.types import FileRef, Finding
from shared.runtime import files
from shared.runtime.delivery import Tx
from shared.runtime.service import Context


@dataclass
class Evidence:
    """What one batch has seen. No file stays in memory: a batch may name gigabytes."""

    context: Context
    tx: Tx
    _seen: dict[tuple[str, str, int, bool], Unusable | None] = field(default_factory=dict)

    async def take(self, token: str, ref: FileRef) -> None:
        """Keep a file that is not read; raises `Unusable` for one that did not arrive or may not be kept.

        A paper may be a scan or a document; what does not say which paper it is must be a scan."""
        only_scan = ref.role == "scan" and ref.material is None
        key = (token, ref.sha256, ref.size, only_scan)
        if key not in self._seen:
            try:
                await self._take(token, ref, only_scan)
                self._seen[key] = None
            except Unusable as error:
                self._seen[key] = error
        if found := self._seen[key]:
            raise Unusable(found.code, found.detail)

    async def _take(self, token: str, ref: FileRef, only_scan: bool) -> None:
        # Only what this publisher itself has sent: a hash is no secret.
        kept = await store.role_of_file(self.tx.conn, ref.sha256, token, ref.size)
        if kept == "scan" or (kept == "workbook" and not only_scan):
            return
        body = await self.fetch(token, ref)
        role = await child.look(body, ref.name, only_scan=only_scan)
        await self.keep(token, ref, role, body)

    async def fetch(self, token: str, ref: FileRef) -> bytes:
        try:
            return await files.fetch(self.context.jetstream, token, ref.sha256, ref.size)
        except files.Missing as error:
            raise Unusable("file.missing", f"文件未收到：{error}；请重新发送这个文件，再报送一次") from None

    async def keep(self, token: str, ref: FileRef, role: str, body: bytes) -> None:
        await store.keep_file(self.tx.conn, ref.sha256, file_name(ref.name), role, token, body)


def unfit(i: int, error: Unusable) -> Finding:
    """What is wrong with the file at this place of the event."""
    return parse.fault("R-COL-018", error.code, error.detail, f"#/data/files/{i}", "征集通知·三")
