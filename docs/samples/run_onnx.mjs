// node run_onnx.mjs FOLDER PHOTO…: what an exported model says. Needs onnxruntime-web, jpeg-js and pngjs, nothing else.
import { readFile } from "node:fs/promises";
import jpeg from "jpeg-js";
import * as ort from "onnxruntime-web";
import { PNG } from "pngjs";

/** RGB pixels of a JPEG or PNG; one with an EXIF orientation has to be turned before. */
async function pixelsOf(path) {
  const file = await readFile(path);
  const { data, width, height } = file[0] === 0x89 ? PNG.sync.read(file) : jpeg.decode(file);
  const rgb = new Uint8Array(width * height * 3);
  for (let pixel = 0; pixel < width * height; pixel++) rgb.set(data.subarray(4 * pixel, 4 * pixel + 3), 3 * pixel);
  return new ort.Tensor("uint8", rgb, [1, height, width, 3]);
}

const [folder, ...photos] = process.argv.slice(2);
const { run: { classes } } = JSON.parse(await readFile(`${folder}/certificate.json`, "utf-8"));
const session = await ort.InferenceSession.create(await readFile(`${folder}/model.onnx`));
for (const path of photos) {
  const { probabilities } = await session.run({ pixels: await pixelsOf(path) });
  const best = probabilities.data.indexOf(Math.max(...probabilities.data));
  console.log(probabilities.data[best].toFixed(6), JSON.stringify(classes[best]), path);
}
