/** The choice between kernels that only a clock can make. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { chooseFasterKernel } from "../../../js/kernel.js";

/** A build whose kernels take so many milliseconds a round, by a clock that ticks every `tick`. */
function build(costs, tick = 0.005) {
  let clock = 0;
  let selected = Object.keys(costs)[0];
  return {
    now: () => Math.floor(clock / tick) * tick,
    spent: () => clock,
    get selected() {
      return selected;
    },
    rival_kernels: () => Object.keys(costs),
    try_kernel: (name, rounds) => void (clock += costs[name] * rounds),
    select_kernel: (name) => {
      selected = name;
      return true;
    },
  };
}

test("the faster kernel is used, and why is said with figures", () => {
  for (const [costs, expected, ticks] of [
    [{ i16: 0.02, i32: 0.01 }, "i32", [0.005, 0.1, 1]],
    [{ i16: 0.01, i32: 0.02 }, "i16", [0.005, 0.1, 1]],
    // A small difference changes nothing, where the clock can tell that it is small.
    [{ i16: 0.0105, i32: 0.01 }, "i16", [0.005, 0.1]],
  ]) {
    for (const tick of ticks) {
      const wasm = build(costs, tick);
      const [why] = chooseFasterKernel(wasm, wasm.now);
      assert.equal(wasm.selected, expected, `${JSON.stringify(costs)}, a clock of ${tick} ms`);
      assert.match(why, new RegExp(`^dot products ${expected}: measured here, i16 .* ms, i32 .* ms$`));
    }
  }
});

test("kernels are compared as they run once the browser has compiled them well", () => {
  let clock = 0, ran = 0, selected = "";
  const costs = { i16: [0.03, 0.01], i32: [0.02, 0.02] };
  chooseFasterKernel({
    rival_kernels: () => Object.keys(costs),
    try_kernel: (name, rounds) => void (clock += costs[name][(ran += rounds) > 1000 ? 1 : 0] * rounds),
    select_kernel: (name) => Boolean(selected = name),
  }, () => clock);
  assert.equal(selected, "i16");
});

test("one slow turn decides nothing", () => {
  const wasm = build({ i16: 0.01, i32: 0.02 });
  const { try_kernel } = wasm;
  let calls = 0;
  let late = 0;
  wasm.try_kernel = (name, rounds) => {
    try_kernel(name, rounds);
    if (name === "i16" && ++calls % 3 === 0) late += 30;
  };
  chooseFasterKernel(wasm, () => wasm.now() + late);
  assert.equal(wasm.selected, "i16");
});

test("the trial is short, whatever the machine and the clock", () => {
  for (const cost of [1e-5, 0.001, 0.1, 1]) {
    for (const tick of [0.005, 0.1, 1]) {
      const wasm = build({ i16: cost, i32: cost }, tick);
      chooseFasterKernel(wasm, wasm.now);
      assert.ok(wasm.spent() < 120, `${cost} ms a round, a clock of ${tick} ms: ${wasm.spent()} ms`);
    }
  }
});

test("a build with one form is asked nothing more, and a clock that stands still ends nowhere", () => {
  const one = build({ simd128: 1 });
  assert.deepEqual(chooseFasterKernel(one, one.now), []);
  assert.equal(one.spent(), 0);
  const wasm = build({ i16: 0.01, i32: 0.02 });
  chooseFasterKernel(wasm, () => 0);
  assert.equal(wasm.selected, "i16");
});
