/** Figures as people read them. */

/** @param {number} bytes */
export function formatBytes(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1e6) return `${Math.round(bytes / 1e3)} kB`;
  if (bytes < 1e9) return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
  return `${(bytes / 1e9).toFixed(2)} GB`;
}

/** @param {number} ms */
export function formatDuration(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < 90_000) return `${Math.round(ms / 1000)} s`;
  return `${Math.round(ms / 60_000)} min`;
}

/** @param {number} perSecond */
export function formatRate(perSecond) {
  return perSecond < 10 ? perSecond.toFixed(1) : String(Math.round(perSecond));
}

/**
 * The line under an answer.
 * @param {{ tokens: number, tokensPerSecond: number, firstTokenMs: number }} figures
 */
export function formatFigures({ tokens, tokensPerSecond, firstTokenMs }) {
  const parts = [];
  if (tokensPerSecond > 0) parts.push(`${formatRate(tokensPerSecond)} tokens/s`);
  if (firstTokenMs > 0) parts.push(`first token ${formatDuration(firstTokenMs)}`);
  parts.push(`${tokens} ${tokens === 1 ? "token" : "tokens"}`);
  return parts.join(" · ");
}

/** How fast bytes arrive, over the last few seconds: an average since the start would remember a slow beginning for ever. */
export class RateMeter {
  /** @type {{ time: number, loaded: number }[]} */
  #samples = [];

  /** @param {number} time ms @param {number} loaded bytes */
  add(time, loaded) {
    if (loaded < (this.#samples.at(-1)?.loaded ?? 0)) this.#samples = [];
    this.#samples.push({ time, loaded });
    while (this.#samples.length > 2 && time - this.#samples[0].time > 4000) this.#samples.shift();
  }

  /** Bytes a second; 0 until there is something to tell. */
  get rate() {
    const first = this.#samples[0], last = this.#samples.at(-1);
    if (!first || !last || last.time - first.time < 250) return 0;
    return ((last.loaded - first.loaded) * 1000) / (last.time - first.time);
  }

  /** @param {number} total bytes @returns {number} ms, or 0 while unknown */
  timeLeft(total) {
    const last = this.#samples.at(-1);
    return this.rate > 0 && last && total > last.loaded ? ((total - last.loaded) * 1000) / this.rate : 0;
  }
}
