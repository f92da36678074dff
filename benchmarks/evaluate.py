"""Write `docs/benchmarks.md` from the JSON files that `lifemask evaluate --output DIR` wrote.

python benchmarks/evaluate.py DIR [docs/benchmarks.md]
"""

import sys
from pathlib import Path

from lifemask.evaluation.run import table_names
from lifemask.evaluation.tables import benchmarks_page, report_from_json


def main() -> None:
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    page = Path(sys.argv[2] if len(sys.argv) == 3 else "docs/benchmarks.md")
    files = [folder / f"{name}.json" for name in table_names()]
    found = [file for file in files if file.exists()]
    if not found:
        sys.exit(
            f"{folder} contains no report of {', '.join(table_names())}. "
            f"Write reports with: lifemask evaluate all --output {folder}"
        )
    reports = [report_from_json(file.read_text(encoding="utf-8")) for file in found]
    page.write_text(benchmarks_page(reports), encoding="utf-8")
    print(f"{page}: {', '.join(report.table.name for report in reports)}")


if __name__ == "__main__":
    main()
