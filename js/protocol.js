/**
 * The one vocabulary between page and worker: types, and the table of calls. Every call carries an
 * id and is settled by exactly one `result` or `error` with that id; events with the id may come
 * before it.
 *
 * @typedef {import("./errors.js").WireError} WireError
 * @typedef {import("./log.js").LogLevel} LogLevel
 * @typedef {import("./probe.js").Kernel} Kernel
 */

/**
 * How a call is scheduled: `now` answers between two steps of whatever runs; `turn` waits for its
 * turn, first come first served.
 *
 * @type {Readonly<{ [K in keyof Calls]: "now" | "turn" }>}
 */
export const CALLS = Object.freeze({
  load: "turn",
  preflight: "turn",
  generate: "turn",
  tokenize: "now",
  detokenize: "now",
  countTokens: "now",
  fingerprint: "turn",
  saveState: "turn",
  restoreState: "turn",
});

/**
 * What goes in and comes out of each call.
 *
 * @typedef {{
 *   load: { args: LoadArgs, result: EngineInfo },
 *   preflight: { args: PreflightArgs, result: import("./preflight.js").Preflight },
 *   generate: { args: GenerateArgs, result: GenerateResult },
 *   tokenize: { args: { text: string, parseSpecial: boolean }, result: number[] },
 *   detokenize: { args: { ids: number[] }, result: string },
 *   countTokens: { args: { text: string } | { messages: WireMessage[], options: RenderOptions }, result: number },
 *   fingerprint: { args: { text: string, answer: number }, result: Fingerprint },
 *   saveState: { args: { key: string, maxBytes?: number }, result: StateInfo },
 *   restoreState: { args: { key: string }, result: StateInfo | null },
 * }} Calls
 */

/**
 * Page → worker. `abort` names a call still pending.
 * @typedef {{ [K in keyof Calls]: { id: number, call: K, args: Calls[K]["args"] } }[keyof Calls]} CallMessage
 * @typedef {{ id: number, abort: true }} AbortMessage
 * @typedef {CallMessage | AbortMessage | import("./relay.js").FromRelay} ToWorker
 */

/**
 * Worker → page.
 * @typedef {{ id: number, event: WorkerEvent }} EventMessage
 * @typedef {{ id: number, result: unknown }} ResultMessage
 * @typedef {{ id: number, error: WireError, fatal?: boolean }} ErrorMessage `fatal`: the engine is gone
 * @typedef {{ log: import("./log.js").LogEntry }} LogMessage
 * @typedef {{ alive: string }} AliveMessage the worker holds the Web Lock of this name until it dies
 * @typedef {EventMessage | ResultMessage | ErrorMessage | LogMessage | AliveMessage | import("./relay.js").ToRelay} FromWorker
 */

/**
 * @typedef {ProgressEvent_ | StartEvent | PrefillEvent | TokensEvent} WorkerEvent
 * @typedef {{ type: "progress" } & Progress} ProgressEvent_
 * @typedef {{ type: "start", promptTokens: number, cachedTokens: number, dropped: WireMessage[] }} StartEvent
 * @typedef {{ type: "prefill", done: number, total: number }} PrefillEvent
 * @typedef {{ type: "tokens", tokens: WireToken[] }} TokensEvent
 */

/**
 * One generated token. `text` is the whole UTF-8 it completed, so it may be empty.
 * @typedef {{ id: number, text: string, logprob?: WireLogprob }} WireToken
 * @typedef {{ id: number, token: string, bytes: number[], logprob: number }} WireAlternative
 * @typedef {WireAlternative & { top: WireAlternative[] }} WireLogprob
 */

/**
 * `phase`: `download` bytes come over the network, `verify` a checksum is compared, `load` bytes
 * come from the cache or a file, `warmup` the last preparations. `loaded` and `total` are bytes over all files, `total` 0
 * while unknown; `file` is the one of which something came last, `cached` whether from this device. `rate` is bytes a second over the
 * network, of the last seconds, and `timeLeft` ms at that rate; both are 0 until there is something to tell.
 * @typedef {{ phase: "download" | "verify" | "load" | "warmup", loaded: number, total: number, file: string, cached: boolean,
 *   rate: number, timeLeft: number }} Progress
 */

/**
 * @typedef {{ name: string, url: string, bytes?: number, sha256?: string }} RemoteFile
 * @typedef {{ kind: "gguf", name?: string, file: RemoteFile, base?: string }
 *   | { kind: "pack", name?: string, url: string }
 *   | { kind: "directory", url: string, files?: RemoteFile[] }
 *   | import("./hub.js").HubSource
 *   | { kind: "blobs", files: { name: string, blob: Blob }[] }} ModelSource
 *
 * @typedef {object} LoadArgs
 * @property {ModelSource} source
 * @property {string} pkgUrl folder of the wasm builds, absolute, with a slash at the end
 * @property {"auto" | "none"} cache
 * @property {import("./room.js").WhenFull} [whenFull]
 * @property {number} [stallMs]
 * @property {"auto" | number} threads
 * @property {number} [contextLength]
 * @property {Kernel} [kernel]
 * @property {LogLevel} logLevel
 * @property {string} [lockName] a Web Lock to hold for life
 */

/** @typedef {Pick<LoadArgs, "source" | "pkgUrl" | "cache" | "stallMs" | "threads" | "contextLength" | "kernel" | "logLevel">} PreflightArgs */

/**
 * @typedef {object} EngineInfo
 * @property {string} model the registry's id, else the name in the weights' own metadata
 * @property {string} architecture e.g. `llama`
 * @property {number} parameters
 * @property {string} quantization
 * @property {number} contextLength tokens, prompt and answer together
 * @property {number} threads threads in use
 * @property {string} kernel the SIMD instructions in use
 * @property {string} build the folder of `pkg/` that the engine came from
 * @property {boolean} crossOriginIsolated
 * @property {string[]} why what was chosen and why, in words
 * @property {boolean} stored whether the next visit finds the model on this device; `why` says why not
 * @property {number} weightBytes
 * @property {number} memoryBytes the engine's whole memory, at the last look
 */

/**
 * @typedef {{ role: "system" | "user" | "assistant" | "tool", content: string }} WireMessage
 * @typedef {{ enable_thinking?: boolean, date?: string }} RenderOptions
 *
 * @typedef {object} SamplingArgs names as in the OpenAI API; absent means the model's own default
 * @property {number} [temperature]
 * @property {number} [top_p]
 * @property {number} [top_k]
 * @property {number} [min_p]
 * @property {number} [repetition_penalty]
 * @property {number} [max_tokens]
 * @property {string[]} [stop]
 * @property {number} seed
 * @property {boolean} [logprobs]
 * @property {number} [top_logprobs]
 *
 * @typedef {{ messages: WireMessage[] } & RenderOptions & SamplingArgs} GenerateArgs
 */

/**
 * @typedef {object} Fingerprint
 * @property {string} text SHA-256 of the logits at all positions of the text (float32, little-endian), in hex
 * @property {string} answer SHA-256 of the logits that each token of the greedy answer was chosen by
 * @property {number[]} ids the answer
 */

/**
 * @typedef {object} StateInfo a saved conversation
 * @property {number} tokens that the engine need not read again
 * @property {number} bytes on this device
 */

/**
 * @typedef {"stop" | "length" | "abort"} FinishReason
 *
 * @typedef {object} Timings
 * @property {number} prefill_ms
 * @property {number} prefill_tokens_per_second
 * @property {number} first_token_ms from the request's turn to its first token
 * @property {number} decode_ms
 * @property {number} decode_tokens_per_second
 *
 * @typedef {object} GenerateResult
 * @property {FinishReason} finishReason
 * @property {{ prompt_tokens: number, completion_tokens: number, cached_tokens: number }} usage
 * @property {Timings} timings
 * @property {number} memoryBytes
 */

export {};
