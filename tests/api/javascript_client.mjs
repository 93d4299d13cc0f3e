// The life of a snapshot as Amazon's SDK for JavaScript lives it.  Prints what it read back.
//
//     node javascript_client.mjs        with AWS_ENDPOINT_URL and credentials set

import { createHash } from "node:crypto";
import {
  CompleteSnapshotCommand,
  EBSClient,
  GetSnapshotBlockCommand,
  ListChangedBlocksCommand,
  ListSnapshotBlocksCommand,
  PutSnapshotBlockCommand,
  StartSnapshotCommand,
} from "@aws-sdk/client-ebs";
import { EC2Client, waitUntilSnapshotCompleted } from "@aws-sdk/client-ec2";

const BLOCK_SIZE = 524288;
const ebs = new EBSClient({});
const ec2 = new EC2Client({});
const sha256 = (...parts) => {
  const hash = createHash("sha256");
  parts.forEach((part) => hash.update(part));
  return hash.digest();
};

async function upload(blocks, parent) {
  const started = await ebs.send(
    new StartSnapshotCommand({ VolumeSize: 1, ParentSnapshotId: parent }),
  );
  const id = started.SnapshotId;
  await Promise.all(
    [...blocks].map(([index, data]) =>
      ebs.send(
        new PutSnapshotBlockCommand({
          SnapshotId: id,
          BlockIndex: index,
          BlockData: data,
          DataLength: BLOCK_SIZE,
          Checksum: sha256(data).toString("base64"),
          ChecksumAlgorithm: "SHA256",
        }),
      ),
    ),
  );
  const whole = sha256(...[...blocks.values()].map((data) => sha256(data)));
  await ebs.send(
    new CompleteSnapshotCommand({
      SnapshotId: id,
      ChangedBlocksCount: blocks.size,
      Checksum: whole.toString("base64"),
      ChecksumAlgorithm: "SHA256",
      ChecksumAggregationMethod: "LINEAR",
    }),
  );
  await waitUntilSnapshotCompleted(
    { client: ec2, minDelay: 1, maxDelay: 2, maxWaitTime: 120 },
    { SnapshotIds: [id] },
  );
  return id;
}

async function download(id) {
  const listed = await ebs.send(new ListSnapshotBlocksCommand({ SnapshotId: id }));
  const found = {};
  for (const { BlockIndex, BlockToken } of listed.Blocks) {
    const got = await ebs.send(
      new GetSnapshotBlockCommand({ SnapshotId: id, BlockIndex, BlockToken }),
    );
    const data = await got.BlockData.transformToByteArray();
    if (sha256(data).toString("base64") !== got.Checksum) throw new Error("wrong checksum");
    found[BlockIndex] = sha256(data).toString("hex");
  }
  return found;
}

const first = new Map([0, 3, 2047].map((index) => [index, Buffer.alloc(BLOCK_SIZE, index + 1)]));
const second = new Map([[3, Buffer.alloc(BLOCK_SIZE, 9)], [4, Buffer.alloc(BLOCK_SIZE)]]);
const parent = await upload(first);
const child = await upload(second, parent);
const changed = await ebs.send(
  new ListChangedBlocksCommand({ FirstSnapshotId: parent, SecondSnapshotId: child }),
);
console.log(
  JSON.stringify({
    parent: await download(parent),
    child: await download(child),
    changed: changed.ChangedBlocks.map((block) => block.BlockIndex),
  }),
);
