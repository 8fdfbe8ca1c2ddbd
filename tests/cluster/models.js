// models.js DOCUMENTS.json: checks Kubernetes objects with the enumerations and quantities of the npm package.
const fs = require("fs");
const kinds = {
  Job: require("kubernetes-models/batch/v1").Job,
  PersistentVolumeClaim: require("kubernetes-models/v1").PersistentVolumeClaim,
  Pod: require("kubernetes-models/v1").Pod,
};
for (const object of JSON.parse(fs.readFileSync(process.argv[2], "utf8"))) {
  new kinds[object.kind](object).validate();
  console.log("ok: " + object.kind + " " + object.metadata.name);
}
