/** How far a loading is, over all of its files, and how fast bytes arrive. */

/**
 * @typedef {import("./protocol.js").Progress} Progress
 */

/** No screen shows more. */
const REPORT_MS = 50;
/** An average since the start would remember a slow beginning for ever. */
const WINDOW_MS = 4000;
/** Less than this tells nothing. */
const SHORTEST_MS = 250;

export class Meter {
  #total;
  /** How far each file is. @type {Map<string, number>} */
  #files = new Map();
  #loaded = 0;
  #file = "";
  #cached = false;
  #reported = -Infinity;
  /** @type {Progress["phase"]} */
  #phase = "download";
  #rate;
  /** Bytes that came over the network. */
  #arrived = 0;

  /**
   * @param {(progress: Progress) => void} report
   * @param {{ total?: number, now?: () => number }} [options] `total`: 0 while unknown
   */
  constructor(report, { total = 0, now = () => performance.now() } = {}) {
    this.report = report;
    this.now = now;
    this.#total = total;
    this.#rate = new RateMeter();
  }

  /** Bytes so far. */
  get loaded() {
    return this.#loaded;
  }

  /** Says how many bytes there will be at least, over all files. @param {number} total */
  expect(total) {
    this.#total = Math.max(this.#total, total);
  }

  /**
   * @param {string} file
   * @param {number} position bytes of it that are here; going back changes nothing
   * @param {boolean} cached whether they were on this device
   */
  at(file, position, cached) {
    const more = position - (this.#files.get(file) ?? 0);
    if (more <= 0) return;
    this.#files.set(file, position);
    this.#loaded += more;
    this.#file = file;
    this.#cached = cached;
    this.#phase = cached ? "load" : "download";
    if (!cached) this.#rate.add(this.now(), (this.#arrived += more));
    this.#tell(false);
  }

  /** @param {Progress["phase"]} phase */
  phase(phase) {
    this.#phase = phase;
    this.#tell(true);
  }

  /** @param {boolean} always */
  #tell(always) {
    const time = this.now();
    if (!always && time - this.#reported < REPORT_MS) return;
    this.#reported = time;
    const total = Math.max(this.#total, this.#loaded);
    const { rate } = this.#rate;
    this.report({
      phase: this.#phase, loaded: this.#loaded, total, file: this.#file, cached: this.#cached,
      rate, timeLeft: rate > 0 ? ((total - this.#loaded) * 1000) / rate : 0,
    });
  }
}

/** How fast bytes arrive, over the last few seconds. */
export class RateMeter {
  /** @type {{ time: number, bytes: number }[]} */
  #samples = [];

  /** @param {number} time ms @param {number} bytes so far */
  add(time, bytes) {
    this.#samples.push({ time, bytes });
    while (this.#samples.length > 2 && time - this.#samples[0].time > WINDOW_MS) this.#samples.shift();
  }

  /** Bytes a second; 0 until there is something to tell. */
  get rate() {
    const first = this.#samples[0], last = this.#samples.at(-1);
    if (!first || !last || last.time - first.time < SHORTEST_MS) return 0;
    return ((last.bytes - first.bytes) * 1000) / (last.time - first.time);
  }
}
