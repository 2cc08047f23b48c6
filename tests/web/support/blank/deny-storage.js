navigator.storage.getDirectory = () => Promise.reject(new DOMException("storage is denied", "SecurityError"));
