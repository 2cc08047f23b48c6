/** The engine's worker on a device that fills up while a model is written, whatever was said before. */
import "./fill-storage.js";
import "../smollm-web/worker.js";
