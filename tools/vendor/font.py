"""Make the font of the formulas, book/assets/vendor/STIXTwoMath.woff2; needed only when it changes.

    npm pack @fontsource/stix-two-math@5.3.0 && tar xf fontsource-stix-two-math-5.3.0.tgz
    pip install fonttools brotli
    python tools/vendor/font.py package/files/stix-two-math-latin-400-normal.woff2

The letters and signs of formulas are kept. The tall forms of the root are made as narrow as the small one:
Chromium leaves room for the widest form beside every root, however small.
"""

import sys
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

KEPT = """
U+0020-007E U+00A0 U+00AC U+00AF U+00B0 U+00B1 U+00B4 U+00B7 U+00D7 U+00F7 U+0131 U+0237 U+02C6-02DD
U+0300-0304 U+0306-0308 U+030A U+030C U+0338 U+0391-03A9 U+03B1-03C9 U+03D1 U+03D5 U+03D6 U+03F0 U+03F1 U+03F5
U+2009 U+200A U+2016 U+2026 U+2032-2034 U+2037 U+203E U+2061-2064 U+2102 U+210B U+210D-2113 U+2115 U+2118-211D
U+2124 U+212C U+2130-2134 U+2190-2195 U+21A6 U+21A9 U+21AA U+21D0-21D5 U+2200-222E U+2234 U+2235 U+223C U+2243
U+2245 U+2248 U+2250-2254 U+2260 U+2261 U+2264-226B U+227A U+227B U+2282-228B U+2293-22A8 U+22C0-22C6
U+22EE-22F1 U+2308-230B U+23DC-23DF U+25A1 U+25B3 U+25CB U+2713 U+27E8-27EB U+27F5-27FC U+2A00-2A02 U+2A7D
U+2A7E U+2AAF U+2AB0 U+1D400-1D49B U+1D49C-1D4CF U+1D538-1D56B U+1D5A0-1D5D3 U+1D6A4-1D71B U+1D7CE-1D7D7
"""


def narrow_roots(font: TTFont) -> None:
    variants = font["MATH"].table.MathVariants
    root = font.getBestCmap()[0x221A]
    forms = variants.VertGlyphConstruction[variants.VertGlyphCoverage.glyphs.index(root)]
    width = font["hmtx"][root][0]
    tall = {record.VariantGlyph for record in forms.MathGlyphVariantRecord} - {root}
    tall |= {part.glyph for part in forms.GlyphAssembly.PartRecords}
    for name in tall:
        wide, bearing = font["hmtx"][name]
        glyph = font["glyf"][name]
        glyph.coordinates.scale((width / wide, 1))
        glyph.coordinates.toInt()
        glyph.recalcBounds(font["glyf"])
        font["hmtx"][name] = width, round(bearing * width / wide)


if __name__ == "__main__":
    target = Path(__file__).parents[2] / "book" / "assets" / "vendor" / "STIXTwoMath.woff2"
    options = subset.Options(layout_features=["ssty", "ss01", "ss04", "dtls", "ccmp", "kern", "mark"], flavor="woff2")
    font = subset.load_font(sys.argv[1], options)
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=subset.parse_unicodes(KEPT))
    cutter.subset(font)
    narrow_roots(font)
    subset.save_font(font, target, options)
    print(target, target.stat().st_size, "bytes")
