// Replays a model's golden vectors: `node stream.mjs MODEL.onnx MODEL.golden.npz`. See README.md beside this file.
// Exit codes: 0 the model gives what it should, 1 it does not or a file is damaged, 2 wrong usage.

import { readFileSync, statSync } from 'node:fs';
import { parseArgs } from 'node:util';

import { DamagedFileError, readNpz } from './npz.mjs';
import { StepModel } from './step_model.mjs';

const USAGE = 'Usage: node stream.mjs MODEL.onnx VECTORS.npz [--tolerance X] [--json]';

/** Largest absolute difference of a logit, a probability or a memory's element, by the graph's type: edgeclf's own. */
const TOLERANCE = { float32: 1e-4, float16: 0.25 };

class UsageError extends Error {}

/** The differences of one output from what it should be, added up over the steps. */
class Difference {
  max = 0;
  worstStep = 0;
  #sum = 0;
  #count = 0;

  add(found, right, step) {
    for (let i = 0; i < right.length; i++) {
      const difference = Math.abs(found[i] - right[i]);
      // A comparison with NaN is false: the first NaN is kept, so that the check fails.
      if (!(difference <= this.max) && !Number.isNaN(this.max)) [this.max, this.worstStep] = [difference, step];
      this.#sum += difference;
    }
    this.#count += right.length;
  }

  get mean() {
    return this.#sum / this.#count;
  }
}

/**
 * Runs a model over its vectors, its own memory fed back. Compared are logits and probabilities at every step, and the
 * memory after the last one.
 * @param {Map<string, {shape: number[], data: TypedArray}>} vectors arrays under the names of the graph's inputs and
 *   outputs; all but the memory's have a leading axis of steps
 */
async function replay(modelPath, vectors) {
  const array = (name) => {
    if (!vectors.has(name)) throw new DamagedFileError(`it lacks ${name}`);
    return vectors.get(name);
  };
  const [steps, streams] = array('logits').shape;
  if (!steps || !streams) throw new DamagedFileError('there is not one step in it');
  const step = (name, k) => {
    const { shape, data } = array(name);
    if (shape[0] !== steps) throw new DamagedFileError(`${name} has ${shape[0]} steps, and logits has ${steps}`);
    return { shape: shape.slice(1), data: data.subarray((k * data.length) / steps, ((k + 1) * data.length) / steps) };
  };
  const model = await StepModel.load(modelPath, streams);
  const differences = new Map();
  const compare = (name, found, right, k) => {
    if (`${found.shape}` !== `${right.shape}`) {
      throw new DamagedFileError(`${name} is of the shape (${right.shape}), and the model's (${found.shape})`);
    }
    if (!differences.has(name)) differences.set(name, new Difference());
    differences.get(name).add(found.data, right.data, k);
  };
  for (let k = 0; k < steps; k++) {
    const resets = model.takesKeepMemory || vectors.has('keep_memory');
    const keep = resets ? step('keep_memory', k).data : undefined;
    const found = await model.step(step(model.inputName, k).data, keep);
    for (const name of ['logits', 'probabilities']) compare(name, found[name], step(name, k), k);
  }
  for (const name of model.stateNames) {
    compare(`next_state.${name}`, model.state(name), array(`next_state.${name}`), steps - 1);
  }
  return { steps, streams, type: model.isHalf ? 'float16' : 'float32', differences };
}

function printTable({ steps, streams, differences }, tolerance, passed) {
  const width = Math.max(...[...differences.keys()].map((name) => name.length));
  console.log(`${'output'.padEnd(width)}  max abs   mean abs  worst step`);
  for (const [name, { max, mean, worstStep }] of differences) {
    const columns = [max, mean].map((value) => value.toExponential(2).padEnd(8));
    console.log(`${name.padEnd(width)}  ${columns.join('  ')}  ${worstStep}`);
  }
  const verdict = passed ? 'The model gives what it should' : 'The model does NOT give what it should';
  console.log(`${verdict}: ${steps} chained steps of ${streams} stream(s), tolerance ${tolerance}.`);
}

/** Returns the paths and options of the command. @throws {UsageError} */
function parsed() {
  const options = { tolerance: { type: 'string' }, json: { type: 'boolean', default: false } };
  let found;
  try {
    found = parseArgs({ options, allowPositionals: true });
  } catch (error) {
    throw new UsageError(error.message);
  }
  const { positionals, values } = found;
  const tolerance = values.tolerance === undefined ? undefined : Number(values.tolerance);
  if (positionals.length !== 2) throw new UsageError(`Two files are asked for, and ${positionals.length} given.`);
  if (tolerance !== undefined && !(tolerance >= 0)) throw new UsageError('--tolerance takes a number, 0 or more.');
  return { modelPath: positionals[0], vectorsPath: positionals[1], tolerance, json: values.json };
}

async function main({ modelPath, vectorsPath, tolerance, json }) {
  const missing = [modelPath, vectorsPath].find((path) => !statSync(path, { throwIfNoEntry: false })?.isFile());
  if (missing) throw new UsageError(`${missing}: there is no such file.`);
  const result = await replay(modelPath, readNpz(readFileSync(vectorsPath)));
  const bound = tolerance ?? TOLERANCE[result.type];
  const passed = [...result.differences.values()].every(({ max }) => max <= bound);
  if (json) {
    const outputs = [...result.differences].map(([name, { max, mean, worstStep }]) => {
      return [name, { max_absolute: max, mean_absolute: mean, worst_step: worstStep }];
    });
    const { steps, streams } = result;
    console.log(JSON.stringify({ passed, steps, streams, tolerance: bound, outputs: Object.fromEntries(outputs) }));
  } else {
    printTable(result, bound, passed);
  }
  return passed ? 0 : 1;
}

let paths;
try {
  paths = parsed();
  process.exitCode = await main(paths);
} catch (error) {
  if (error instanceof UsageError) {
    console.error(`${error.message}\n${USAGE}`);
    process.exitCode = 2;
  } else if (error instanceof DamagedFileError) {
    console.error(`${paths.vectorsPath}: ${error.message}; export the model again.`);
    process.exitCode = 1;
  } else if (error.constructor === Error) {
    // ONNX Runtime's and StepModel's are about the model; any other is a fault of this program.
    console.error(`${paths.modelPath}: ${error.message}`);
    process.exitCode = 1;
  } else {
    throw error;
  }
}
