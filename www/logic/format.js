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
