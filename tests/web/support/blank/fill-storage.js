const { write } = FileSystemSyncAccessHandle.prototype;
let room = 60_000;
FileSystemSyncAccessHandle.prototype.write = function (data, options) {
  room -= data.byteLength;
  if (room < 0) throw new DOMException("the device is full", "QuotaExceededError");
  return write.call(this, data, options);
};
