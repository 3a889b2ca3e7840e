"""The page's looks: light and dark, narrow and wide, on paper; no script, nothing fetched."""

from __future__ import annotations

CSS = """
:root{color-scheme:light dark;--bg:#fff;--card:#f6f7f9;--ink:#1a1d23;--muted:#57606a;--line:#d5dae1;
--plain:#57606a;--grid:#e6e9ee;--pass:#1a7f37;--fail:#c62828;--error:#8e2a9d;--inconclusive:#8a5a00;--on:#fff;
--s1:#0b62b8;--s2:#b85c00;--s3:#0f7b6c;--bad:#c62828;--okfill:#9fd3ac;--oldfill:#9dbfe6;--newfill:#7cc4b6}
@media screen and (prefers-color-scheme:dark){:root{--bg:#12151a;--card:#1a1f26;--ink:#e6e8ec;
--muted:#a0a9b5;--plain:#565f6c;--line:#343b46;--grid:#262c35;--pass:#1f7a3b;--fail:#b9352e;--error:#93409f;
--inconclusive:#8a5f0a;--s1:#6cb6ff;--s2:#ffa657;--s3:#4fd1b8;--bad:#ff7b72;--okfill:#2b5a39;--oldfill:#2f5d8f;--newfill:#1f6f62}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,
"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;overflow-wrap:anywhere}
main,header,footer{max-width:1280px;margin:0 auto;padding:0 20px}
header{padding-top:24px}
footer{padding-top:20px;padding-bottom:28px;color:var(--muted);font-size:13px}
h1{font-size:15px;font-weight:600;margin:0 0 12px;color:var(--muted)}
h2{font-size:20px;margin:40px 0 12px;padding-top:16px;border-top:1px solid var(--line)}
h3{font-size:16px;margin:28px 0 8px}
p{margin:6px 0}
a{color:var(--s1)}
nav{display:flex;flex-wrap:wrap;gap:4px 18px;margin:14px 0 0;font-size:14px}
.muted{color:var(--muted)}
.badge{display:inline-block;padding:1px 9px;border-radius:4px;font-weight:650;font-size:12.5px;
letter-spacing:.02em;white-space:nowrap;color:var(--on);background:var(--plain)}
.v-pass,.v-ok{background:var(--pass)}.v-fail{background:var(--fail)}
.v-error,.v-saturated,.v-interrupted{background:var(--error)}
.v-inconclusive,.v-scripted{background:var(--inconclusive)}
.banner{border:1px solid var(--line);border-left:8px solid var(--muted);border-radius:6px;
background:var(--card);padding:16px 20px}
.banner.is-pass{border-left-color:var(--pass)}.banner.is-fail{border-left-color:var(--fail)}
.banner.is-error{border-left-color:var(--error)}
.banner.is-inconclusive{border-left-color:var(--inconclusive)}
.banner .badge{font-size:20px;padding:3px 14px}
.banner .badge+.badge{font-size:13px;margin-left:10px;vertical-align:4px}
.banner p{margin:10px 0 0;white-space:pre-wrap}
.banner p.first{font-size:17px;font-weight:600}
.note{border-left:4px solid var(--inconclusive);background:var(--card);
padding:8px 14px;margin:10px 0}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(168px,100%),1fr));
gap:10px 20px;margin:16px 0}
.facts dt{font-size:12.5px;color:var(--muted)}.facts dd{margin:0;font-variant-numeric:tabular-nums}
table{border-collapse:collapse;width:100%;margin:8px 0;font-size:14px}
caption{text-align:left;color:var(--muted);font-size:13px;padding-bottom:4px}
th,td{text-align:left;vertical-align:top;padding:6px 12px 6px 0;border-bottom:1px solid var(--line)}
th{font-size:12.5px;font-weight:600;color:var(--muted);vertical-align:bottom;overflow-wrap:normal}
td{white-space:pre-wrap}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.w{width:42%}.f{width:24%}
code{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
summary{cursor:pointer;padding:6px 0}
.items{display:flex;flex-wrap:wrap;gap:6px 16px;margin:10px 0;padding:0;list-style:none;
font-size:14px}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(430px,100%),1fr));gap:8px 40px}
.pair>*{min-width:0}
figure{margin:16px 0 4px}
figcaption{font-weight:600;font-size:14px}
figure p{color:var(--muted);font-size:13px;margin:2px 0}
.plot{padding:0 22px 0 50px}
.plot>svg{display:block;width:100%;overflow:visible}
.keys{display:flex;flex-wrap:wrap;gap:2px 18px;font-size:13px;margin:4px 0 2px}
.keys svg{width:26px;height:10px;margin-right:6px;overflow:visible;vertical-align:middle}
svg text{font-size:11.5px;fill:var(--muted);font-variant-numeric:tabular-nums}
svg .strong{fill:var(--ink);font-weight:600}
svg .grid{stroke:var(--grid)}svg .frame{stroke:var(--muted)}
svg path,svg line{fill:none;vector-effect:non-scaling-stroke}
svg .s1{stroke:var(--s1);stroke-width:2.2}
svg .s2{stroke:var(--s2);stroke-width:2;stroke-dasharray:6 4}
svg .s3{stroke:var(--s3);stroke-width:2;stroke-dasharray:2 3}
svg .want{stroke:var(--ink);stroke-width:1.5;stroke-dasharray:5 3}
svg .old95{stroke:var(--s1);stroke-width:2.2}svg .old50{stroke:var(--s1);stroke-width:1}
svg .new95{stroke:var(--s3);stroke-width:2.4;stroke-dasharray:5 3}
svg .new50{stroke:var(--s3);stroke-width:1.2;stroke-dasharray:5 3}
svg .okarea{fill:var(--okfill)}svg .oldarea{fill:var(--oldfill)}
svg .newarea{fill:var(--newfill)}svg .badarea{fill:var(--bad)}
svg .limit{stroke:var(--bad);stroke-dasharray:2 3;stroke-width:1.5}
svg .event{stroke:var(--ink);stroke-opacity:.55}
svg .aside{fill:var(--muted);fill-opacity:.13}
svg .span{fill:var(--s1);fill-opacity:.14}
svg .lost{fill:url(#hatch)}svg .hatchline{stroke:var(--bad);stroke-width:1.5;stroke-opacity:.45}
svg .hit{fill:transparent}svg .hit:hover{fill:var(--ink);fill-opacity:.09}
svg .dot{fill:var(--s1);stroke:var(--bg);stroke-width:1.5}
svg .dot2{fill:var(--s2);stroke:var(--bg);stroke-width:1.5}
svg .m-pass{fill:var(--pass);stroke:var(--bg)}
svg .m-fail{fill:none;stroke:var(--bad);stroke-width:2.6}
svg .m-error,svg .m-inconclusive{fill:var(--bg);stroke:var(--inconclusive);stroke-width:2.2}
.bar{display:block;width:100%;min-width:60px;height:14px;margin-top:4px}
.bar .ok{fill:var(--okfill);stroke:var(--pass)}
.bar .bad{fill:var(--bad)}.bar .aside{fill:var(--muted)}
.forest{display:block;width:100%;min-width:120px;height:24px;overflow:visible}
.forest .range{stroke:var(--ink);stroke-width:2}
@media (max-width:700px){
main,header,footer{padding-left:14px;padding-right:14px}
.banner{padding:12px 14px}
table,tbody,tr,td,caption{display:block;width:100%}
thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
tr{border-bottom:1px solid var(--line);padding:8px 0;display:grid;
grid-template-columns:repeat(2,minmax(0,1fr));gap:0 16px}
td{border:0;padding:1px 0;display:grid;grid-template-columns:84px minmax(0,1fr);gap:10px;
grid-column:1/-1;width:auto}
td::before{content:attr(data-label);color:var(--muted);font-size:12.5px}
td.w,td.f{width:auto}td.n{text-align:left;white-space:normal;grid-column:auto}td:empty{display:none}
td>*{justify-self:start}td>svg{justify-self:stretch}
}
@media (min-width:701px){td code,td.k{white-space:nowrap}}
@media print{body{font-size:12px}main,header,footer{max-width:none}
figure,tr,.banner{break-inside:avoid}h2,h3{break-after:avoid}
.badge,svg,.banner{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""
