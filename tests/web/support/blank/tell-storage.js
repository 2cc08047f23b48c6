const quota = Number(new URLSearchParams(location.search).get("quota"));
const { estimate } = StorageManager.prototype;
StorageManager.prototype.estimate = async function () {
  return { ...await estimate.call(this), quota };
};
