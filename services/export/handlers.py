"""What export hears and says: published rows are kept, a requested catalogue is made and announced.

Layout is in `sheet.py`, keeping files in `publish.py`, memory in `store.py`.
"""

from collections.abc import Sequence

from services.export import publish, sheet, store, table
from shared.contracts import registry
from shared.contracts.catalogue import CataloguePublished, CatalogueRequested
from shared.contracts.problem import Problem, problem
from shared.contracts.submission import EventAccepted
from shared.notices.calendar import SHANGHAI
from shared.notices.load import CompiledNotice, load_all
from shared.notices.model import Form, Notice
from shared.runtime.decode import Item
from shared.runtime.delivery import Tx
from shared.runtime.service import Context, Service


class Export:
    def __init__(self) -> None:
        self.notices: dict[str, CompiledNotice] = {}
        self.context: Context | None = None

    async def setup(self, context: Context) -> None:
        self.notices = load_all(context.settings.notices)
        self.context = context

    async def on_evt(self, tx: Tx, items: Sequence[Item]) -> None:
        """Published rows, and cases that were closed: those are shown no more."""
        rows = []
        for item in items:
            data = item.data
            out = item.type is registry.CASE_PUBLISHED
            rows.append(
                {
                    "case": data.case,
                    "version": data.version,
                    "notice": data.notice,
                    "form": data.form,
                    "shown": out,
                    "filed": data.filed.isoformat() if out else None,
                    "values": data.values if out else None,
                }
            )
        store.follow(tx.conn, rows, self.form_of)

    def form_of(self, notice: str, form: str) -> Form | None:
        compiled = self.notices.get(notice)
        return compiled.notice.by_form.get(form) if compiled else None

    async def on_in(self, tx: Tx, items: Sequence[Item]) -> None:
        for item in items:
            wrong = await self._make(tx, item, item.data)
            if wrong:
                tx.refuse(item, wrong)
            else:
                tx.answer(
                    item, registry.EVENT_ACCEPTED, EventAccepted(accepted=item.event.id, type=item.event.type)
                )

    async def _make(self, tx: Tx, item: Item, wanted: CatalogueRequested) -> Problem | None:
        compiled = self.notices.get(wanted.notice)
        if compiled is None:
            return problem("notice", "没有这个通知", "请核对通知编号", status=404)
        notice = compiled.notice
        if item.token != notice.issuer:
            return problem("authority", "无权办理", "目录由发布通知的市级部门发布", status=403)
        if wanted.form is not None and wanted.form not in notice.by_form:
            return problem("form", "没有这张表", f"现有：{'、'.join(notice.by_form)}", status=404)
        if wanted.form is not None and notice.by_form[wanted.form].card is not None:
            return problem("form", "这张表不印目录", "卡片式的表逐件存档，不汇成目录", status=422)
        lists = [form for form in notice.forms if form.card is None]
        for form in lists if wanted.form is None else (notice.by_form[wanted.form],):
            await self._catalogue(tx, notice, form, str(item.key), public=wanted.public)
        return None

    async def _catalogue(self, tx: Tx, notice: Notice, form: Form, cause: str, *, public: bool) -> None:
        assert self.context
        rows = await store.shown(tx.conn, notice.id, form.id)
        if not rows:
            return
        data = sheet.catalogue(notice, form, rows, public=public)
        made = CataloguePublished(
            notice=notice.id,
            form=form.id,
            title=notice.form_title(form),
            rows=len(rows),
            sha256=table.digest(data),
            object=table.object_name(notice, form, public=public),
            size=len(data),
            published_on=tx.now.astimezone(SHANGHAI).date(),
            public=public,
        )
        # Before the commit, and with the same bytes whenever it is repeated: what is announced can be had.
        await publish.to_store(self.context.jetstream, made.object, data, made.sha256)
        if self.context.settings.catalogues:
            folder = self.context.settings.catalogues / notice.id
            publish.to_folder(folder, table.file_name(notice, form, public=public), data)
        if await store.keep(tx.conn, made.model_dump(mode="json")):
            variant = ("public",) if public else ()
            tx.say(registry.CATALOGUE_PUBLISHED, notice.issuer, made, cause, form.id, made.sha256, *variant)


export = Export()
service = Service("export", {"in": export.on_in, "evt": export.on_evt}, setup=export.setup)
