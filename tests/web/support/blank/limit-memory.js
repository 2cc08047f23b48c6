const most = Number(self.name);
const { Memory } = WebAssembly;
WebAssembly.Memory = class extends Memory {
  constructor({ maximum, ...description }) {
    super({ ...description, maximum: Math.min(maximum, most) });
  }
};
