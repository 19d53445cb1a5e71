"""What export hears and says: published rows are kept, catalogues are made of them and announced.

How they look is in `formats.py`, keeping files in `publish.py`, memory in `store.py`.
"""

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from services.export import formats, publish, store
from services.export.fonts import fonts
from services.export.store import Cause
from shared.contracts import registry
from shared.contracts.catalogue import CataloguePublished, CatalogueRequested, CatalogueSuperseded
from shared.contracts.problem import Problem, problem
from shared.contracts.submission import EventAccepted
from shared.notices.calendar import SHANGHAI
from shared.notices.load import CompiledNotice, load_all
from shared.notices.model import Form, Notice
from shared.runtime import metrics
from shared.runtime.decode import Item
from shared.runtime.delivery import Tx, outage
from shared.runtime.service import Context, Service

log = logging.getLogger("yiqi.export")

QUIET = timedelta(seconds=2)
"""For so long nothing of an annex must have changed before its catalogue is made again: a hundred rows, one catalogue."""
AT_MOST = timedelta(seconds=30)
"""And after so long it is made though there was never such a pause."""


class Export:
    def __init__(self) -> None:
        self.notices: dict[str, CompiledNotice] = {}
        self.context: Context | None = None
        self._postponed: dict[tuple[str, str], datetime] = {}

    async def setup(self, context: Context) -> None:
        self.notices = load_all(context.settings.notices)
        fonts(
            context.settings.fonts
        )  # a folder that is not there is an error now and not when something is printed
        self.context = context

    async def on_evt(self, tx: Tx, items: Sequence[Item]) -> None:
        """Published rows, and cases that were closed: those are shown no more."""
        rows: list[dict[str, object]] = []
        changed: dict[tuple[str, str], Cause] = {}
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
            form = self.form_of(data.notice, data.form)
            if form is not None and form.card is None:
                # Of a case that never was shown, too: whether it was, another replica may be about to say.
                changed[data.notice, data.form] = Cause(item.type.name, data.actor, item.event.id)
        store.follow(tx.conn, rows, self.form_of)
        store.touch(tx.conn, changed, tx.now)

    def form_of(self, notice: str, form: str) -> Form | None:
        compiled = self.notices.get(notice)
        return compiled.notice.by_form.get(form) if compiled else None

    async def on_in(self, tx: Tx, items: Sequence[Item]) -> None:
        """An annex is made once a batch, however many ask for it: what they all get is committed with them."""
        asked: dict[tuple[str, str, bool], Cause] = {}
        for item in items:
            wanted: CatalogueRequested = item.data
            if wrong := self._wrong(item, wanted):
                tx.refuse(item, wrong)
                continue
            for form in self._lists(wanted.notice) if wanted.form is None else (wanted.form,):
                cause = Cause(item.type.name, item.token, item.event.id)
                asked.setdefault((wanted.notice, form, wanted.public), cause)
            tx.answer(
                item, registry.EVENT_ACCEPTED, EventAccepted(accepted=item.event.id, type=item.event.type)
            )
        for notice_id, form_id, public in sorted(asked):  # in one order, so that replicas wait and never both
            notice = self.notices[notice_id].notice
            await store.mine(tx.conn, notice_id, form_id, wait=True)
            cause = asked[notice_id, form_id, public]
            await self._catalogue(tx, notice, notice.by_form[form_id], cause, public=public)

    def _wrong(self, item: Item, wanted: CatalogueRequested) -> Problem | None:
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
        return None

    def _lists(self, notice: str) -> list[str]:
        return [form.id for form in self.notices[notice].notice.forms if form.card is None]

    async def update(self, context: Context) -> None:
        """Every second: make the catalogues anew of which cases were published or closed. A request does not take the
        mark away; what it has made is then made again with the same bytes, and nothing is said."""
        now = context.clock.now()
        async with context.engine.connect() as conn:
            found = await store.due(conn, now, QUIET, AT_MOST)
        for annex in found:
            if self._postponed.get(annex, now) > now:
                continue
            try:
                await self._update(context, *annex)
            except Exception as error:
                if outage(error):
                    raise
                # An annex that cannot be printed must not keep the others from it.
                self._postponed[annex] = now + AT_MOST
                log.exception("catalogue was not made", extra={"form": annex[1]}, exc_info=error)

    async def _update(self, context: Context, notice_id: str, form_id: str) -> None:
        form = self.form_of(notice_id, form_id)
        if form is None:  # its notice is no longer loaded: the mark waits for it
            return
        notice = self.notices[notice_id].notice
        async with context.delivery.transaction() as tx:
            if not await store.mine(tx.conn, notice.id, form.id, wait=False):
                return
            mark = await store.mark(tx.conn, notice.id, form.id)
            if mark is None:  # a replica has just made it
                return
            for public in (False, True):
                await self._catalogue(tx, notice, form, mark.cause, public=public)
            store.settle(tx.conn, mark)

    async def _catalogue(self, tx: Tx, notice: Notice, form: Form, cause: Cause, *, public: bool) -> None:
        """Make one variant of an annex, if that says anything new; by whoever is the only one to do so."""
        assert self.context
        rows = await store.shown(tx.conn, notice.id, form.id)
        last = await store.last(tx.conn, notice.id, form.id, public=public)
        if not rows and last is None:
            return
        own = self.context.settings.fonts
        content = formats.content(notice, form, rows, public=public, own=own)
        if last is not None and last.content == content:
            return
        # In a thread: the loop must turn, and a long annex takes seconds.
        files = await asyncio.to_thread(formats.render, notice, form, rows, public=public, own=own)
        told = tuple(file.told() for file in files)
        if last is not None and last.files == [one.model_dump(mode="json") for one in told]:
            store.unchanged(tx.conn, notice.id, form.id, content, public=public)
            return
        made = CataloguePublished(
            notice=notice.id,
            form=form.id,
            title=notice.form_title(form),
            rows=len(rows),
            sha256=told[0].sha256,
            object=told[0].object,
            size=told[0].size,
            published_on=tx.now.astimezone(SHANGHAI).date(),
            public=public,
            version=last.version + 1 if last else 1,
            files=told,
        )
        # Before the commit, and with the same bytes whenever it is repeated: what is announced can be had.
        for file, one in zip(files, told, strict=True):
            await publish.to_store(self.context.jetstream, file.object, file.data, one.sha256)
            if self.context.settings.catalogues:
                folder = self.context.settings.catalogues / notice.id
                await asyncio.to_thread(publish.to_folder, folder, file.name, file.data)
        await store.keep(tx.conn, made, content, cause, tx.now)
        # A version is made once, so these ids are its own; an attempt that was rolled back has said nothing.
        annex = (notice.id, form.id, "public" if public else "internal")
        case = await store.case_of(tx.conn, notice.id, form.id, cause)
        trace = case.hex if case else None  # of the last case that changed it, as that one's mails have it
        tx.say(registry.CATALOGUE_PUBLISHED, notice.issuer, made, *annex, made.version, trace=trace)
        if last is not None:
            former = CatalogueSuperseded(
                notice=notice.id,
                form=form.id,
                public=public,
                version=last.version,
                sha256=last.sha256,
                by=made.version,
                rows=made.rows,
                fact=cause.fact,
            )
            tx.say(registry.CATALOGUE_SUPERSEDED, notice.issuer, former, *annex, last.version, trace=trace)
        tx.after.append(metrics.CATALOGUES.labels(form.id).inc)


export = Export()
service = Service(
    "export",
    {"in": export.on_in, "evt": export.on_evt},
    setup=export.setup,
    sweeps=(export.update,),
    counts=store.COUNTS,
)
