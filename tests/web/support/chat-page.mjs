/**
 * The chat page as a person uses it, in Chromium (Playwright) and in Firefox (puppeteer): both libraries can evaluate and type, and
 * little else alike; and a page may leave and come back meanwhile.
 */

/** Asks the page until it says true. @param {any} page @param {string} what it waits for @param {any} question */
export async function until(page, what, question, ...args) {
  let last;
  for (let tries = 0; tries < 600; tries++) {
    last = await page.evaluate(question, ...args).catch((error) => String(error));
    if (last === true) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const journal = await page.evaluate(() => {
    document.querySelector("dialog")?.close();
    document.querySelector(".engine-pill")?.click();
    return document.querySelector(".journal-lines")?.innerText;
  }).catch(String);
  throw new Error(`never ${what} (${last}): ${await page.evaluate(() => document.body.innerText.slice(-400)).catch(String)}\n${journal}`);
}

export const ready = (page) => until(page, "ready", () => document.querySelector(".engine-pill")?.dataset.state === "ready");

export const tell = async (page, text) => {
  await page.focus("#message");
  await page.keyboard.type(text);
  await page.keyboard.press("Enter");
};
