/**
 * The same steps in Chromium (Playwright) and in Firefox (puppeteer over WebDriver BiDi): a blank
 * page of the site's origin that imports the package, and what a test asks it to do.
 */

/** @param {any} page of either library @param {string} blank its address */
export async function openBlank(page, blank) {
  await page.goto(blank);
  await page.evaluate(async () => {
    const { SmolLM, SmolLMChat, SmolLMError } = await import(new URL("../smollm-web/index.js", location.href).href);
    /** What crosses from page to test: errors as data. */
    const settled = async (action) => {
      const began = performance.now();
      try {
        return { value: await action(), ms: performance.now() - began };
      } catch (error) {
        return { ms: performance.now() - began, error: {
          name: error.name, code: error.code, message: error.message, ours: error instanceof SmolLMError, cause: error.cause?.message,
        } };
      }
    };
    Object.assign(window, { SmolLM, SmolLMChat, SmolLMError, settled });
  });
}

/**
 * Loads a model in the page as `window.engine`.
 * @param {any} page @param {unknown} model @param {object} [options]
 */
export function loadEngine(page, model = "smollm2-135m-instruct", options = {}) {
  return page.evaluate(async ([what, how]) => {
    await window.engine?.unload();
    window.progress = [];
    window.engine = await window.SmolLM.load(what, { ...how, onProgress: (p) => window.progress.push(p) });
    return window.engine.info;
  }, [model, options]);
}

/**
 * Asks the page's engine. @param {any} page @param {object} params
 * @returns {Promise<{ text: string, ids: number[], logprobs: number[], finish: string, usage: any }>} `logprobs`: of
 *   each token, then those of its likeliest alternatives, as many as were asked for
 */
export function complete(page, params) {
  return page.evaluate(async (given) => {
    const stream = await window.engine.chat.completions.create({ ...given, logprobs: true, stream: true });
    const ids = [], logprobs = [];
    let text = "", finish = "", usage;
    for await (const { choices: [choice], usage: found } of stream) {
      text += choice.delta.content ?? "";
      for (const { token_id, logprob, top_logprobs } of choice.logprobs?.content ?? []) {
        ids.push(token_id);
        logprobs.push(logprob, ...top_logprobs.map((top) => top.logprob));
      }
      finish = choice.finish_reason ?? finish;
      usage = found ?? usage;
    }
    return { text, ids, logprobs, finish, usage };
  }, params);
}
