"""Draws points.json as docs/quality.svg: python3 benches/quality/plot.py (standard library alone)."""

import json
from html import escape
from pathlib import Path

HERE = Path(__file__).parent
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 760, 420, 60, 30, 20, 46
SIZES = (63, 84)
LOSSES = (0, 40)
LIMITS = (68, 8)  # MB, percent


def x(size: float) -> float:
    return LEFT + (size - SIZES[0]) / (SIZES[1] - SIZES[0]) * (WIDTH - LEFT - RIGHT)


def y(loss: float) -> float:
    return HEIGHT - BOTTOM - (loss - LOSSES[0]) / (LOSSES[1] - LOSSES[0]) * (HEIGHT - TOP - BOTTOM)


def main() -> None:
    points = json.loads((HERE / "points.json").read_text())["whole"]
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<rect x="{x(SIZES[0]):.1f}" y="{y(LIMITS[1]):.1f}" width="{x(LIMITS[0]) - x(SIZES[0]):.1f}" '
        f'height="{y(0) - y(LIMITS[1]):.1f}" fill="#dff0e0"/>',
    ]
    for size in range(SIZES[0] + 1, SIZES[1] + 1, 4):
        out.append(f'<text x="{x(size):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{size} MB</text>')
    for loss in range(LOSSES[0], LOSSES[1] + 1, 10):
        out.append(f'<path d="M{LEFT} {y(loss):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y(loss) + 4:.1f}" text-anchor="end">+{loss}%</text>')
    out.append(f'<text x="{LEFT}" y="18">perplexity over float32, by bytes of weights on the wire</text>')
    for point in points:
        loss = 100 * (point["ratio"] - 1)
        ours = point.get("shipped", False)
        at = f'cx="{x(point["mb"]):.1f}" cy="{y(loss):.1f}"'
        out.append(f'<circle {at} r="{6 if ours else 4}" fill="{"#0a7d33" if ours else "#4a6fa5"}"/>')
        if label := point.get("label"):
            left = point["mb"] > 75
            anchor, shift = ("end", -9) if left else ("start", 9)
            out.append(
                f'<text x="{x(point["mb"]) + shift:.1f}" y="{y(loss) + 4:.1f}" text-anchor="{anchor}">{escape(label)}</text>'
            )
    out.append("</svg>")
    (HERE.parents[1] / "docs/quality.svg").write_text("\n".join(out) + "\n")


main()
