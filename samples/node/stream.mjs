// Replays a model's golden vectors: `node stream.mjs MODEL.onnx MODEL.golden.npz`. See README.md beside this file.
// Exit codes: 0 the model gives what it should, 1 it does not or a file is damaged, 2 wrong usage.

import { readFileSync, statSync } from 'node:fs';
import { parseArgs } from 'node:util';

import { DamagedFileError, readNpz } from './npz.mjs';
import { StepModel } from './step_model.mjs';

const USAGE = 'Usage: node stream.mjs MODEL.onnx VECTORS.npz [--json]';

class UsageError extends Error {}

/** The differences of one output from what it should be, added up over the steps. */
class Difference {
  max = 0;
  worstStep = 0;
  #sum = 0;
  #count = 0;
  #squares = 0;
  #size = 0;

  add(found, right, step) {
    for (let i = 0; i < right.length; i++) {
      const difference = Math.abs(found[i] - right[i]);
      // A comparison with NaN is false: the first NaN is kept, so that the check fails.
      if (!(difference <= this.max) && !Number.isNaN(this.max)) [this.max, this.worstStep] = [difference, step];
      this.#sum += difference;
      this.#squares += difference ** 2;
      this.#size += right[i] ** 2;
    }
    this.#count += right.length;
  }

  get mean() {
    return this.#sum / this.#count;
  }

  /** Euclidean norm of the differences as a share of that of the right values: it sees what is wrong in small ones. */
  get relative() {
    if (this.#size === 0) return this.#squares === 0 ? 0 : Infinity;
    return Math.sqrt(this.#squares / this.#size);
  }

  /** Whether both are let through; NaN is not. */
  within(tolerance) {
    return this.max <= tolerance.max_absolute && this.relative <= tolerance.relative;
  }
}

/**
 * Runs a model over its vectors, its own memory fed back. Compared are logits and probabilities at every step, and the
 * memory after the last one. What is let through depends on the model's precision, which its inputs do not tell: it
 * stands in the vectors.
 * @param {Map<string, {shape: number[], data: TypedArray}>} vectors arrays under the names of the graph's inputs and
 *   outputs; all but the memory's have a leading axis of steps; and `tolerance.max_absolute`, `tolerance.relative`
 */
async function replay(modelPath, vectors) {
  const array = (name) => {
    if (!vectors.has(name)) throw new DamagedFileError(`it lacks ${name}`);
    return vectors.get(name);
  };
  const bound = (name) => {
    const { shape, data } = array(`tolerance.${name}`);
    if (shape.length || !(data[0] >= 0)) throw new DamagedFileError(`its tolerance.${name} is no number of 0 or more`);
    return Number(data[0]);
  };
  const tolerance = { max_absolute: bound('max_absolute'), relative: bound('relative') };
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
  const passed = [...differences.values()].every((difference) => difference.within(tolerance));
  return { passed, steps, streams, tolerance, differences };
}

function printTable({ passed, steps, streams, tolerance, differences }) {
  const width = Math.max(...[...differences.keys()].map((name) => name.length));
  console.log(`${'output'.padEnd(width)}  max abs   mean abs  relative  worst step`);
  for (const [name, { max, mean, relative, worstStep }] of differences) {
    const columns = [max, mean, relative].map((value) => value.toExponential(2).padEnd(8));
    console.log(`${name.padEnd(width)}  ${columns.join('  ')}  ${worstStep}`);
  }
  const verdict = passed ? 'The model gives what it should' : 'The model does NOT give what it should';
  const bounds = `max abs ${tolerance.max_absolute}, relative ${tolerance.relative}`;
  console.log(`${verdict}: ${steps} chained steps of ${streams} stream(s), tolerance: ${bounds}.`);
}

/** Returns the paths and options of the command. @throws {UsageError} */
function parsed() {
  const options = { json: { type: 'boolean', default: false } };
  let found;
  try {
    found = parseArgs({ options, allowPositionals: true });
  } catch (error) {
    throw new UsageError(error.message);
  }
  const { positionals, values } = found;
  if (positionals.length !== 2) throw new UsageError(`Two files are asked for, and ${positionals.length} given.`);
  return { modelPath: positionals[0], vectorsPath: positionals[1], json: values.json };
}

async function main({ modelPath, vectorsPath, json }) {
  const missing = [modelPath, vectorsPath].find((path) => !statSync(path, { throwIfNoEntry: false })?.isFile());
  if (missing) throw new UsageError(`${missing}: there is no such file.`);
  const result = await replay(modelPath, readNpz(readFileSync(vectorsPath)));
  if (json) {
    const { differences, ...rest } = result;
    const outputs = [...differences].map(([name, { max, mean, relative, worstStep }]) => {
      return [name, { max_absolute: max, mean_absolute: mean, relative, worst_step: worstStep }];
    });
    console.log(JSON.stringify({ ...rest, outputs: Object.fromEntries(outputs) }));
  } else {
    printTable(result);
  }
  return result.passed ? 0 : 1;
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
