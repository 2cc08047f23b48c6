/** The README's picture of a record: bars of tokens per second, readable on light and dark pages. */
import { number } from "./report.mjs";
import { rate } from "./schedule.mjs";

/** In the order of the picture; what a record does not have is left out. */
const SHOWN = ["ours-relaxed", "ours-simd128", "candle-q4_0", "wllama2", "wllama3", "llama.cpp"];
const PANELS = [
  { title: "Writing the answer, tokens per second", prompt: 16, what: /** @type {const} */ ("decode") },
  { title: "Reading a prompt of 128 tokens, tokens per second", prompt: 128, what: /** @type {const} */ ("prefill") },
];

const WIDTH = 760;
const LABEL = 210;
const VALUE = 60;
const BAR = 13;
const GAP = 10;
const TITLE = 34;

const STYLE = `
  text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328; }
  .title { font-weight: 600; font-size: 14px; }
  .note { fill: #59636e; font-size: 12px; }
  .ours { fill: #0969da; }
  .other { fill: #8c959f; }
  .many { opacity: 1; }
  .one { opacity: .55; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; }
    .note { fill: #9198a1; }
    .ours { fill: #4493f8; }
    .other { fill: #656c76; }
  }`;

/** @param {import("./report.mjs").Record_} record @returns {string} an SVG document */
export function chart(record) {
  /** @type {string[]} */
  const parts = [];
  let y = 0;
  for (const panel of PANELS) {
    const groups = groupsOf(record.engines, panel.prompt, panel.what);
    if (groups.length === 0) continue;
    const most = Math.max(...groups.flatMap(({ bars }) => bars.map(({ value }) => value)));
    parts.push(`<text class="title" x="0" y="${y + 20}">${escape(panel.title)}</text>`);
    y += TITLE;
    for (const { label, ours, bars } of groups) {
      const height = bars.length * BAR;
      parts.push(`<text x="${LABEL - 10}" y="${y + height / 2 + 4.5}" text-anchor="end">${escape(label)}</text>`);
      for (const { threads, value } of bars) {
        const width = Math.max(1, (value / most) * (WIDTH - LABEL - VALUE));
        parts.push(`<rect class="${ours ? "ours" : "other"} ${threads > 1 ? "many" : "one"}" x="${LABEL}" y="${y}" width="${width.toFixed(1)}" height="${BAR - 1}"/>`);
        parts.push(`<text class="note" x="${(LABEL + width + 6).toFixed(1)}" y="${y + BAR - 3}">${number(value)}</text>`);
        y += BAR;
      }
      y += GAP;
    }
    y += GAP;
  }
  if (parts.length === 0) throw new Error("chart: the record has no engine that was measured");
  const { machine, browser, date } = record;
  parts.push(`<text class="note" x="0" y="${y + 12}">pale: 1 thread, full: 2. ${escape(`${browser}, ${machine.cpu}, ${machine.cores} cores, ${date.slice(0, 10)}`)}</text>`);
  y += 20;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${y}" width="${WIDTH}" height="${y}" role="img" aria-label="Tokens per second of smollm-web and others">
<style>${STYLE}
</style>
${parts.join("\n")}
</svg>
`;
}

/**
 * @param {import("./report.mjs").EngineRecord[]} engines @param {number} prompt @param {"prefill" | "decode"} what
 */
function groupsOf(engines, prompt, what) {
  return SHOWN.flatMap((prefix) => {
    const members = engines.filter(({ id, threads }) => (id === prefix || id === `${prefix}-${threads}`) && threads <= 2);
    const bars = members.flatMap(({ threads, tasks }) => {
      const task = tasks[prompt];
      return task && (what === "decode" || task.mode === "fresh") ? [{ threads, value: rate(task.runs, what) }] : [];
    });
    return bars.length > 0 ? [{ label: members[0].label, ours: members[0].part === "ours", bars }] : [];
  });
}

/** @param {string} text */
function escape(text) {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}
