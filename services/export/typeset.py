"""One document set by typst, as a program of its own: JSON on stdin, PDF on stdout. `pdf.py` starts it.

What typst has once set stays in the memory of its process: 200 MB for 1,000 rows, and no call lets go of it.
"""

import json
import sys
from pathlib import Path


def main() -> None:
    import typst

    told = json.load(sys.stdin.buffer)
    made: object = typst.compile(
        Path(__file__).with_name("paper.typ").read_bytes(),
        font_paths=told["folders"],
        # What a machine happens to have must not change the page.
        ignore_system_fonts=True,
        sys_inputs={"paper": json.dumps(told["paper"], ensure_ascii=False)},
        timestamp=told["timestamp"],
        pdf_tags=False,
    )
    assert isinstance(made, bytes)
    sys.stdout.buffer.write(made)


if __name__ == "__main__":
    main()
