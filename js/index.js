/**
 * smollm-web: SmolLM language models answering in the browser, on the CPU, with no server behind them.
 *
 * ```js
 * import { SmolLM } from "smollm-web";
 *
 * const engine = await SmolLM.load("smollm2-135m-instruct");
 * const stream = await engine.chat.completions.create({
 *   messages: [{ role: "user", content: "Hello!" }],
 *   stream: true,
 * });
 * for await (const chunk of stream) console.log(chunk.choices[0].delta.content);
 * ```
 */
export { SmolLM } from "./client.js";
export { SmolLMChat } from "./chat.js";
export { SmolLMError } from "./errors.js";
export { isolate } from "./isolation.js";

/**
 * @typedef {import("./chat.js").AnswerOptions} AnswerOptions
 * @typedef {import("./chat.js").ChatOptions} ChatOptions
 * @typedef {import("./chat.js").HistoryMessage} HistoryMessage
 * @typedef {import("./client.js").LoadOptions} LoadOptions
 * @typedef {import("./client.js").ModelArgument} ModelArgument
 * @typedef {import("./completions.js").ChatCompletion} ChatCompletion
 * @typedef {import("./completions.js").ChatCompletionChunk} ChatCompletionChunk
 * @typedef {import("./completions.js").CompletionStream} CompletionStream
 * @typedef {import("./device.js").HeldModel} HeldModel
 * @typedef {import("./device.js").KnownModel} KnownModel
 * @typedef {import("./device.js").StorageUsage} StorageUsage
 * @typedef {import("./device.js").PreflightOptions} PreflightOptions
 * @typedef {import("./errors.js").ErrorCode} ErrorCode
 * @typedef {import("./hub.js").HubOptions} HubOptions
 * @typedef {import("./params.js").ChatMessage} ChatMessage
 * @typedef {import("./params.js").CompletionParams} CompletionParams
 * @typedef {import("./log.js").LogEntry} LogEntry
 * @typedef {import("./preflight.js").Preflight} Preflight
 * @typedef {import("./protocol.js").EngineInfo} EngineInfo
 * @typedef {import("./protocol.js").Progress} Progress
 * @typedef {import("./room.js").WhenFull} WhenFull
 * @typedef {import("./protocol.js").StateInfo} StateInfo
 * @typedef {import("./states.js").SavedState} SavedState
 */
