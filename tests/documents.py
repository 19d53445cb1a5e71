"""Real .docx files for tests, written part by part as Word writes them: nothing of the reader is in here.

A document is a list of paragraphs (text) and tables; a table is rows of cells, a cell text or `Box`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from xml.sax.saxutils import escape
from zipfile import ZIP_DEFLATED, ZipFile

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"


@dataclass(frozen=True)
class Box:
    """A cell: `wide` columns; `merge` is "restart" for the first of a vertical merge and "continue" below it."""

    text: str = ""
    wide: int = 1
    merge: str = ""


@dataclass(frozen=True)
class Raw:
    """A paragraph whose runs are written out."""

    xml: str


@dataclass(frozen=True)
class Xml:
    """Paragraphs and tables written out."""

    xml: str


Cell = str | Box
Table = Sequence[Sequence[Cell]]
Part = str | Raw | Xml | Table


def docx(
    parts: Iterable[Part], *, type_: str = TYPE, rels: str = "", more: Mapping[str, bytes] | None = None
) -> bytes:
    body = "".join(map(_part, parts))
    files = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/word/document.xml" ContentType="{type_}"/></Types>',
        "_rels/.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        '<Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/'
        'officeDocument" Target="word/document.xml"/></Relationships>',
        "word/_rels/settings.xml.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/'
        f'relationships">{rels}</Relationships>',
        "word/document.xml": f'<w:document xmlns:w="{W}"><w:body>{body}<w:sectPr/></w:body></w:document>',
    }
    out = BytesIO()
    with ZipFile(out, "w", ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n' + text)
        for name, content in (more or {}).items():
            archive.writestr(name, content)
    return out.getvalue()


def runs(text: str) -> str:
    """Broken into several runs, as Word does while people type; a line break where there is one."""
    half = len(text) // 2
    return "".join(
        "<w:r><w:rPr><w:b/></w:rPr>"
        + "<w:br/>".join(f'<w:t xml:space="preserve">{escape(line)}</w:t>' for line in piece.split("\n"))
        + "</w:r>"
        for piece in (text[:half], text[half:])
        if piece
    )


def symbol(code: str, font: str = "Wingdings") -> str:
    """A character of a font without letters."""
    return f'<w:r><w:sym w:font="{font}" w:char="{code}"/></w:r>'


def joined(*documents: bytes) -> bytes:
    """The same documents behind each other in one."""
    texts = []
    for one in documents:
        with ZipFile(BytesIO(one)) as archive:
            texts.append(archive.read("word/document.xml").decode())
    bodies = [text.partition("<w:body>")[2].partition("<w:sectPr/>")[0] for text in texts]
    return docx([Xml("".join(bodies))])


def _part(part: Part) -> str:
    if isinstance(part, Xml):
        return part.xml
    return _paragraph(part) if isinstance(part, (str, Raw)) else _table(part)


def _paragraph(part: str | Raw) -> str:
    return f"<w:p><w:pPr/>{part.xml if isinstance(part, Raw) else runs(part)}</w:p>"


def _table(rows: Table) -> str:
    return (
        "<w:tbl><w:tblPr/>" + "".join(f"<w:tr>{''.join(map(_cell, row))}</w:tr>" for row in rows) + "</w:tbl>"
    )


def _cell(cell: Cell) -> str:
    box = cell if isinstance(cell, Box) else Box(cell)
    shape = f'<w:gridSpan w:val="{box.wide}"/>' if box.wide > 1 else ""
    if box.merge:
        shape += '<w:vMerge w:val="restart"/>' if box.merge == "restart" else "<w:vMerge/>"
    if box.text.startswith("<w:"):
        return f"<w:tc><w:tcPr>{shape}</w:tcPr><w:p>{box.text}</w:p></w:tc>"
    return f"<w:tc><w:tcPr>{shape}</w:tcPr>{''.join(map(_paragraph, box.text.split(chr(12))))}</w:tc>"


# --- 附件10-1, as the notice prints it and somebody filled it in ---

STATEMENT = (
    "我单位申报的所有材料均客观、真实、完整、准确，均无知识产权纠纷，内容已进行脱敏处理。"
    "我单位在质量安全、信誉和社会责任等方面无不良记录。"
    "在不涉及商业机密的情况下，自愿与其他企业分享经验。如有不实，愿承担相应责任。"
)
TITLE = "甲公司—供应链金融典型案例"
USCC = "91110000600037341L"
CASE: dict[str, Any] = {
    "case_name": TITLE,
    "applicant_org": "甲公司",
    "applied_on": "2025年3月5日",
    "org_name": "甲公司",
    "uscc": USCC,
    "address": "广州市天河区某路1号",
    "org_type": "民营",
    "headcount": "约100人",
    "main_products": "供应链金融平台",
    "contact_name": "张三",
    "contact_title": "经理",
    "contact_phone": "83726619",
    "contact_email": "zhang@example.cn",
    "org_intro": "本单位为中小企业服务。",
    "case_name_2": TITLE,
    "declaration_accepted": True,
    "declared_on": "2025年3月",
    "case_title": TITLE,
    "pain_points": "融资难。",
    "practices": "第一步，调研。\n第二步，建平台。",
    "results": "服务企业200家，融资成本下降15%。",
    "lessons": "数据共享。",
}


def case_docx(case: Mapping[str, Any], *, boxes: str = "□ 国有 □ 合资 ☑ 民营 □ 外资") -> bytes:
    """As the annex prints it: a cover, a table with vertical merges, and headings with text below."""
    sealed = f"{STATEMENT}\f申报单位法人代表签字：\f公章：（单位公章）\f{case.get('declared_on', '年 月')}"
    table: list[list[str | Box]] = [
        [Box("单位信息", merge="restart"), "企业名称", Box(case["org_name"], 3)],
        [Box(merge="continue"), "统一社会信用代码\n(18位)", Box(case["uscc"], 3)],
        [Box(merge="continue"), "联系地址", Box(case["address"], 3)],
        [Box(merge="continue"), "企业类型", Box(boxes, 3)],
        [Box(merge="continue"), "人员规模:", Box(case["headcount"], 3)],
        [Box(merge="continue"), "主导产品/服务:", Box(case["main_products"], 3)],
        [
            Box("联系人信息", merge="restart"),
            "姓 名",
            case["contact_name"],
            "职务/职称",
            case["contact_title"],
        ],
        [Box(merge="continue"), "联系电话", case["contact_phone"], "电子邮箱", case["contact_email"]],
        ["组织简介", Box("(不超过500字)\f" + case["org_intro"], 4)],
        ["典型案例名称", Box(case["case_name_2"], 4)],
        ["企业\n承诺申明", Box(sealed, 4)],
    ]
    parts: list[Part] = [
        "附件10-1",
        "服务中小企业典型案例",
        "申报书",
        f"案例名称：  {case['case_name']}",
        f"申报单位:{case['applicant_org']}＿＿",
        f"申报日期： {case['applied_on']}",
        "第一部分　申报书",
        table,
        "第二部分 典型案例内容",
        "一、典型案例名称",
        "例：XXX公司—XXX典型案例。",
        case["case_title"],
        "二、拟解决的企业痛点或关键问题",
        "结合企业及所属行业特点，简述中小企业经营发展过程中的难点及案例重点解决了哪些问题，不超过300 字。",
        case["pain_points"],
        "三、主要做法",
        *case["practices"].split("\n"),
        "四、服务成效",
        "结合相关指标进行描述，不超过300字。",
        case["results"],
        "五、典型经验",
        case["lessons"],
    ]
    return docx(parts)


# --- 附件9-1 and 附件9-2 ---

FIRM = {
    "recommender": "某区局",
    "filled_by": "李四",
    "filled_on": "2025年3月5日",
    "company_name": "甲公司",
    "uscc": USCC,
    "company_intro": "做检测的企业",
    "reason": "技术领先",
    "contact_name": "王五",
    "contact_title": "总经理",
    "contact_phone": "13800138000",
}
HEAD = ["推荐单位：某区局", "填报人：李四　填报时间： 2025年3月5日"]


def firm(name: str, uscc: str = USCC) -> list[list[str | Box]]:
    return [
        ["推荐企业名称", name, "社会信用代码", uscc],
        ["企业简介", Box("做检测的企业", 3)],
        ["推荐理由", Box("技术领先", 3)],
        ["企业联系人姓名", "王五", "企业联系人职务", "总经理"],
        ["企业联系人联系方式", "13800138000", "备注", ""],
    ]


def blank(card: Table) -> list[list[Cell]]:
    """The same table of labels and answers, in pairs, without the answers."""
    return [
        [Box("", c.wide) if i % 2 and isinstance(c, Box) else "" if i % 2 else c for i, c in enumerate(row)]
        for row in card
    ]


SURVEY: list[Any] = [
    "附件9-1",
    "“城市合伙人”可开发资源摸查表 (2025 年度)",
    "填报单位:某局",
    "填报人:李四",
    "填报时间: 2025 年 10 月 9 日",
    [
        [Box("城市\n无形\n资产\n资源", merge="restart"), "序号", "资源描述", "资源名称", "具体内容\n(含数量)", "时间", "备注"],
        [Box(merge="continue"), Box("1", merge="restart"), Box("参与城市品牌活动或城市应用场景", merge="restart"), "灯光节", "合作1项", "11月", ""],
        [Box(merge="continue"), Box(merge="continue"), Box(merge="continue"), "花市", "展位3个", "1月", "可谈"],
        [Box(merge="continue"), "2", "城市品牌特许权益", "", "", "", ""],
    ],
    [
        [Box("城市大型活动资源", merge="restart"), "序号", "资源描述", "资源名称", "时间地点", "是否提供冠名权",
         "是否提供门票资源", "是否提供VIP接待", "是否提供广告或现场展示", "备注"],
        [Box(merge="continue"), "1", "广州主办的重大体育赛事活动资源", "马拉松", "12月 天河", "是", "否", "无", "√", ""],
    ],
    [
        ["", "序号", "资源描述", "资源名称", "具体内容（含类型、数量、时段等）", "时间", "备注"],
        ["城市公共广告资源", "2", "可用于支持城市合伙人开发的各类户外广告资源", "大屏", "户外大屏2块", "全年", ""],
        [Box("官方推广展示资源", merge="restart"), "1", "市、区人民政府官方网站展示城市合伙人链接", "官网", "首页链接", "", ""],
        [Box(merge="continue"), "3", "国内外友城的路演", "", "", "", ""],
        ["其他特色资源", "", "", "古村落", "可合作3处", "", ""],
    ],
]  # fmt: skip
