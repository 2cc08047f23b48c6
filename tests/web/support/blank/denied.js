/** The engine's worker in a browser, or a private window, that gives no storage. */
import "./deny-storage.js";
import "../smollm-web/worker.js";
