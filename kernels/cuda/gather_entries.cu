// Of our own: libraries copy whole pages, or tokens of all heads; here each head's entries move up
// in place, to pages that the same call may still read from.

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstddef>

#include "kernels/cuda/gather_entries.h"
#include "kernels/cuda/launch.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kPieceBytes = 16;
constexpr int kPiecesPerThread = 4;
constexpr int kSlicePieces = 8;  // of each entry, that a block moves: 128 bytes

constexpr int kScalePieces = 2 * kPageTokens * static_cast<int>(sizeof(__half)) / kPieceBytes;

// The arena as 16-byte pieces: numbers are moved, not read. kScaled: in int8.
template <bool kScaled>
class Pieces {
 public:
  __host__ __device__ explicit Pieces(const KvPages& kv)
      : pieces_(static_cast<uint4*>(kv.pages)),
        per_row_(kv.head_dim *
                 (kScaled                   ? 1
                  : kv.type == KvType::kF32 ? 4
                                            : 2) /
                 kPieceBytes) {}

  // Of an entry's numbers: its key's, then its value's.
  __host__ __device__ int per_entry() const { return 2 * per_row_; }
  __device__ int per_page() const {
    return kPageTokens * per_entry() + (kScaled ? kScalePieces : 0);
  }

  __device__ uint4& At(int32_t page, int offset, int piece) const {
    const int row = piece < per_row_ ? offset : kPageTokens + offset;
    const int col = piece < per_row_ ? piece : piece - per_row_;
    return Page(page)[row * per_row_ + col];
  }
  __device__ uint4* Page(int32_t page) const {
    return pieces_ + static_cast<size_t>(page) * static_cast<size_t>(per_page());
  }

  // Of an entry's key; its value's is kPageTokens behind.
  __device__ __half* Scales(int32_t page, int offset) const {
    static_assert(kScaled);
    return reinterpret_cast<__half*>(Page(page) + kPageTokens * per_entry()) + offset;
  }

 private:
  uint4* const pieces_;
  const int per_row_;
};

__device__ int32_t& PositionAt(const KvPages& kv, int32_t page, int offset) {
  return kv.positions[static_cast<size_t>(page) * kPageTokens + static_cast<size_t>(offset)];
}

// What an entry has beside its numbers.
template <bool kScaled>
struct EntryRest {
  int32_t position;
  __half key_scale;
  __half value_scale;

  __device__ void Read(const KvPages& kv, const Pieces<kScaled>& pieces, int32_t page, int offset) {
    position = PositionAt(kv, page, offset);
    if constexpr (kScaled) {
      key_scale = pieces.Scales(page, offset)[0];
      value_scale = pieces.Scales(page, offset)[kPageTokens];
    }
  }
  __device__ void Write(const KvPages& kv, const Pieces<kScaled>& pieces, int32_t page,
                        int offset) const {
    PositionAt(kv, page, offset) = position;
    if constexpr (kScaled) {
      pieces.Scales(page, offset)[0] = key_scale;
      pieces.Scales(page, offset)[kPageTokens] = value_scale;
    }
  }
};

// Grid [heads, slices]: a block moves the same pieces of all entries of a head, which no other
// block reads or writes. They are numbered by their place to write to. Entries only ever move
// forward, so that a place is read at a number no higher than that of its being written: in each
// round all threads read before any writes.
template <bool kScaled>
__global__ void __launch_bounds__(kThreads)
    GatherEntriesKernel(const GatherTask* tasks, const int32_t* words, KvPages kv) {
  const GatherTask task = tasks[blockIdx.x];
  const int32_t* const pages = words + task.first_page;
  const int32_t* const kept = words + task.first_kept;
  const int32_t* const to_pages = words + task.first_to_page;
  const Pieces<kScaled> pieces(kv);
  const int first_piece = static_cast<int>(blockIdx.y) * kSlicePieces;
  const int width = min(kSlicePieces, pieces.per_entry() - first_piece);
  const int num_pieces = task.num_kept * width;
  for (int begin = 0; begin < num_pieces; begin += kThreads * kPiecesPerThread) {
    uint4 moved[kPiecesPerThread] = {};
    EntryRest<kScaled> rests[kPiecesPerThread] = {};
#pragma unroll
    for (int i = 0; i < kPiecesPerThread; ++i) {
      const int number = begin + i * kThreads + static_cast<int>(threadIdx.x);
      if (number >= num_pieces) continue;
      const int entry = kept[number / width];
      const int piece = first_piece + number % width;
      const int32_t page = pages[entry / kPageTokens];
      moved[i] = pieces.At(page, entry % kPageTokens, piece);
      if (piece == 0) rests[i].Read(kv, pieces, page, entry % kPageTokens);
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kPiecesPerThread; ++i) {
      const int number = begin + i * kThreads + static_cast<int>(threadIdx.x);
      if (number >= num_pieces) continue;
      const int place = number / width;
      const int piece = first_piece + number % width;
      const int32_t page = to_pages[place / kPageTokens];
      pieces.At(page, place % kPageTokens, piece) = moved[i];
      if (piece == 0) rests[i].Write(kv, pieces, page, place % kPageTokens);
    }
    __syncthreads();
  }
}

// A block per page.
template <bool kScaled>
__global__ void __launch_bounds__(kThreads)
    CopyPagesKernel(const int32_t* from, const int32_t* to, KvPages kv) {
  const int32_t from_page = from[blockIdx.x];
  const int32_t to_page = to[blockIdx.x];
  const Pieces<kScaled> pieces(kv);
  for (int i = static_cast<int>(threadIdx.x); i < pieces.per_page(); i += kThreads) {
    pieces.Page(to_page)[i] = pieces.Page(from_page)[i];
  }
  if (threadIdx.x < kPageTokens) {
    const int offset = static_cast<int>(threadIdx.x);
    PositionAt(kv, to_page, offset) = PositionAt(kv, from_page, offset);
  }
}

}  // namespace

cudaError_t GatherEntries(cudaStream_t stream, const GatherTask* tasks, int num_tasks,
                          const int32_t* words, const KvPages& kv) {
  const auto launch = [&](auto kernel, int per_entry) {
    const dim3 grid(static_cast<unsigned>(num_tasks),
                    static_cast<unsigned>(DivideUp(per_entry, kSlicePieces)));
    return Launch(stream, {grid, kThreads}, kernel, tasks, words, kv);
  };
  return kv.type == KvType::kInt8
             ? launch(GatherEntriesKernel<true>, Pieces<true>(kv).per_entry())
             : launch(GatherEntriesKernel<false>, Pieces<false>(kv).per_entry());
}

cudaError_t CopyPages(cudaStream_t stream, const int32_t* from, const int32_t* to, int num_pages,
                      const KvPages& kv) {
  const auto kernel = kv.type == KvType::kInt8 ? CopyPagesKernel<true> : CopyPagesKernel<false>;
  return Launch(stream, {static_cast<unsigned>(num_pages), kThreads}, kernel, from, to, kv);
}

}  // namespace kvec::kernels::cuda
