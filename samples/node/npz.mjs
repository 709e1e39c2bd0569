// NumPy's .npz archives, read with what Node.js brings: a zip file of .npy files, stored or deflated.
// Formats: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html and PKWARE's APPNOTE.TXT.
// Read are little-endian arrays in C order of the types below; not zip64 and not encrypted archives.

import { crc32, inflateRawSync } from 'node:zlib';

import { fromHalf } from './half.mjs';

/** What is wrong with a file: a sentence for whoever runs the program. */
export class DamagedFileError extends Error {}

// How each NumPy type is read out of a buffer of its own, which starts at a multiple of every element's size.
const READERS = {
  '<f2': (buffer) => fromHalf(new Uint16Array(buffer)),
  '<f4': (buffer) => new Float32Array(buffer),
  '<f8': (buffer) => new Float64Array(buffer),
  '|u1': (buffer) => new Uint8Array(buffer),
  '<i4': (buffer) => new Int32Array(buffer),
  '<i8': (buffer) => new BigInt64Array(buffer),
};
const SIZES = { '<f2': 2, '<f4': 4, '<f8': 8, '|u1': 1, '<i4': 4, '<i8': 8 };

/**
 * Reads an archive.
 * @param {Buffer} file its content
 * @returns {Map<string, {shape: number[], data: TypedArray}>} its arrays by name
 * @throws {DamagedFileError} where it is none, is cut short, or holds what is not read here
 */
export function readNpz(file) {
  try {
    const entries = [...zipEntries(file)].filter(([name]) => name.endsWith('.npy'));
    return new Map(entries.map(([name, content]) => [name.slice(0, -'.npy'.length), readNpy(content, name)]));
  } catch (error) {
    // What Node.js raises where a damaged length leads out of the file.
    throw error instanceof RangeError ? new DamagedFileError('it is damaged, or cut short') : error;
  }
}

/** Yields name and unpacked content of each file in a zip archive. */
function* zipEntries(file) {
  // The directory stands at the end, and a comment of up to 65535 bytes may come after it.
  const end = file.lastIndexOf('PK\x05\x06');
  if (end < 0 || end + 22 > file.length) throw new DamagedFileError('it is no .npz archive, or cut short');
  const count = file.readUInt16LE(end + 10);
  let at = file.readUInt32LE(end + 16);
  for (let i = 0; i < count; i++) {
    if (at + 46 > end || file.readUInt32LE(at) !== 0x02014b50) throw new DamagedFileError('its directory is damaged');
    const [flags, method] = [file.readUInt16LE(at + 8), file.readUInt16LE(at + 10)];
    const [sum, packedSize, size] = [16, 20, 24].map((offset) => file.readUInt32LE(at + offset));
    const [nameSize, extraSize, commentSize] = [28, 30, 32].map((offset) => file.readUInt16LE(at + offset));
    const local = file.readUInt32LE(at + 42);
    const name = file.toString('utf8', at + 46, at + 46 + nameSize);
    at += 46 + nameSize + extraSize + commentSize;

    if (flags & 1 || ![0, 8].includes(method) || packedSize === 0xffffffff || size === 0xffffffff) {
      throw new DamagedFileError(`its entry ${name} is encrypted, larger than 4 GB, or packed in another way`);
    }
    if (local + 30 > file.length || file.readUInt32LE(local) !== 0x04034b50) {
      throw new DamagedFileError(`its entry ${name} is not where the directory says`);
    }
    // The entry's own header repeats the name, and its extra field may be of another length than the directory's.
    const start = local + 30 + file.readUInt16LE(local + 26) + file.readUInt16LE(local + 28);
    const content = unpacked(file.subarray(start, start + packedSize), method, name);
    if (content.length !== size || crc32(content) !== sum) {
      throw new DamagedFileError(`its entry ${name} is damaged: it is not what its checksum says`);
    }
    yield [name, content];
  }
}

function unpacked(packed, method, name) {
  if (method === 0) return packed;
  try {
    return inflateRawSync(packed);
  } catch (error) {
    throw new DamagedFileError(`its entry ${name} is damaged (${error.message})`);
  }
}

/** Reads a .npy file: magic, version, length of the header, the header as a Python dict, the elements. */
function readNpy(content, name) {
  if (content.length < 12 || content.toString('latin1', 0, 6) !== '\x93NUMPY') {
    throw new DamagedFileError(`its entry ${name} is no .npy file`);
  }
  const [lengthSize, length] = content[6] === 1 ? [2, content.readUInt16LE(8)] : [4, content.readUInt32LE(8)];
  const start = 8 + lengthSize + length;
  const header = content.toString('latin1', 8 + lengthSize, start);
  const type = /'descr':\s*'([^']*)'/.exec(header)?.[1];
  const shape = /'shape':\s*\(([\d,\s]*)\)/.exec(header)?.[1].split(',').filter((n) => n.trim()).map(Number);
  if (!(type in READERS) || !shape || !/'fortran_order':\s*False/.test(header)) {
    const known = Object.keys(READERS).join(', ');
    throw new DamagedFileError(`its array ${name} is ${header.trim()}, and read are C order and the types ${known}`);
  }
  const bytes = content.subarray(start);
  if (bytes.length !== SIZES[type] * shape.reduce((a, b) => a * b, 1)) {
    throw new DamagedFileError(`its array ${name} does not fill the shape (${shape})`);
  }
  return { shape, data: READERS[type](Uint8Array.from(bytes).buffer) };
}
