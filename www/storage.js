/** What is kept on this device between visits. A browser that stores nothing costs only that. */

const CONVERSATION = "smollm:conversation";
const THEME = "smollm:theme";

/** @returns {string | null} */
export const readConversation = () => read(CONVERSATION);
/** @param {string} json */
export const writeConversation = (json) => write(CONVERSATION, json);
/** @param {"light" | "dark"} theme */
export const writeTheme = (theme) => write(THEME, theme);

/** @param {string} key */
function read(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/** @param {string} key @param {string} value */
function write(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // Full, or denied.
  }
}
