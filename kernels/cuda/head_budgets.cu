// Of our own: CUB has no selection over segments in which each is sure of a part.
//
// The joint choice of (head, candidate) pairs, of which only the number per head is wanted: so no
// pair is ever marked. A radix select over the scores' 32-bit keys in three passes, each of which
// counts digits per head, in blocks of 2,048 candidates, and then finds the digit at which the
// heads' counts, none below `sure`, add up to the budget. 3 · 4 n num_kv_heads bytes, from the L2
// cache where a layer's scores fit there, and six launches.

#include <cuda_runtime.h>

#include "kernels/cuda/head_budgets.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ranked_choice.h"
#include "kernels/cuda/shared_memory.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kNumPasses = 3;
constexpr int kDigits = 2048;
constexpr int kCountThreads = 256;
constexpr int kCandidatesPerThread = 8;
constexpr int kCandidatesPerBlock = kCandidatesPerThread * kCountThreads;
constexpr int kDecideThreads = 1024;
constexpr int kDigitsPerThread = kDigits / kDecideThreads;

// Of pass 0, 1, 2: 11, 11 and 10 bits of the key, from the highest.
__host__ __device__ int ShiftOf(int pass) { return pass == 0 ? 21 : pass == 1 ? 10 : 0; }

struct Workspace {
  int* counts;       // [kNumPasses, num_kv_heads, kDigits]: candidates with the prefix and digit
  int* not_below;    // [num_kv_heads, kDigits]: all candidates with that digit's prefix or above
  uint32_t* prefix;  // [1]: of the key at which the budget ends, as far as it is known
  int* above;        // [num_kv_heads]: candidates with a higher prefix

  __host__ __device__ Workspace(void* memory, int num_kv_heads)
      : counts(static_cast<int*>(memory)),
        not_below(counts + kNumPasses * num_kv_heads * kDigits),
        prefix(reinterpret_cast<uint32_t*>(not_below + num_kv_heads * kDigits)),
        above(reinterpret_cast<int*>(prefix + 1)) {}
  __host__ __device__ int* CountsOf(int pass, int num_kv_heads, int head) const {
    return counts + (pass * num_kv_heads + head) * kDigits;
  }
};

// Grid [n / kCandidatesPerBlock, num_kv_heads].
__global__ void __launch_bounds__(kCountThreads)
    CountDigitsKernel(HeadBudgetArguments a, int pass) {
  KVEC_SHARED_ARRAY(int, counts, [kDigits]);
  const int head = static_cast<int>(blockIdx.y);
  const Workspace workspace(a.workspace, a.num_kv_heads);
  const int shift = ShiftOf(pass);
  const uint32_t prefix = pass == 0 ? 0 : *workspace.prefix;
  const int prefix_shift = pass == 0 ? 0 : ShiftOf(pass - 1);
  for (int i = static_cast<int>(threadIdx.x); i < kDigits; i += kCountThreads) counts[i] = 0;
  __syncthreads();
  const float* const scores =
      a.scores + static_cast<size_t>(head) * static_cast<size_t>(a.num_candidates);
  const int begin = static_cast<int>(blockIdx.x) * kCandidatesPerBlock;
  const int end = min(begin + kCandidatesPerBlock, a.num_candidates);
  float own[kCandidatesPerThread] = {};
#pragma unroll
  for (int i = 0; i < kCandidatesPerThread; ++i) {
    const int t = begin + i * kCountThreads + static_cast<int>(threadIdx.x);
    if (t < end) own[i] = scores[t];
  }
#pragma unroll
  for (int i = 0; i < kCandidatesPerThread; ++i) {
    const uint32_t key = KeyOf(own[i]);
    const bool has_prefix = pass == 0 || key >> prefix_shift == prefix >> prefix_shift;
    const bool is_candidate = begin + i * kCountThreads + static_cast<int>(threadIdx.x) < end;
    if (is_candidate && has_prefix) atomicAdd(&counts[key >> shift & (kDigits - 1)], 1);
  }
  __syncthreads();
  int* const all = workspace.CountsOf(pass, a.num_kv_heads, head);
  for (int i = static_cast<int>(threadIdx.x); i < kDigits; i += kCountThreads) {
    if (counts[i] > 0) atomicAdd(&all[i], counts[i]);
  }
}

// The highest digit at which what heads get of its prefix and above is the layer's budget or more.
// All threads of the block call it.
__device__ int FindDigit(const HeadBudgetArguments& a, const Workspace& workspace, int pass) {
  KVEC_SHARED_ARRAY(int, digit, [1]);
  const int highest = kDigits - 1 - static_cast<int>(threadIdx.x) * kDigitsPerThread;
  Count before = 0;  // what heads get of higher digits than this thread's
  Count gotten[kDigitsPerThread] = {};
  for (int head = 0; head < a.num_kv_heads; ++head) {
    const int* const counts = workspace.CountsOf(pass, a.num_kv_heads, head);
    Count own = 0;
    for (int i = 0; i < kDigitsPerThread; ++i) own += static_cast<Count>(counts[highest - i]);
    Count total;
    Count sum = PrefixSum<kDecideThreads>(own, total);
    sum += pass == 0 ? Count{0} : static_cast<Count>(workspace.above[head]);
    const Count sure = static_cast<Count>(a.sure);
    before += max(sure, sum);
    for (int i = 0; i < kDigitsPerThread; ++i) {
      sum += static_cast<Count>(counts[highest - i]);
      workspace.not_below[head * kDigits + highest - i] = static_cast<int>(sum);
      gotten[i] += max(sure, sum);
    }
  }
  const Count budget = static_cast<Count>(a.layer_budget);
  for (int i = 0; i < kDigitsPerThread; ++i) {
    if (before < budget && gotten[i] >= budget) digit[0] = highest - i;  // true of one
    before = gotten[i];
  }
  __syncthreads();
  return digit[0];
}

// What is left of the budget goes to the candidates of the key at which it ends, head by head.
__device__ void ShareRest(const HeadBudgetArguments& a, const Workspace& workspace, int digit) {
  const int head = static_cast<int>(threadIdx.x);
  int own = 0;
  int equal = 0;
  if (head < a.num_kv_heads) {
    own = max(a.sure, workspace.above[head]);
    equal = max(workspace.not_below[head * kDigits + digit] - own, 0);
  }
  Count gotten;
  (void)PrefixSum<kDecideThreads>(static_cast<Count>(own), gotten);
  Count all_equal;
  const Count before = PrefixSum<kDecideThreads>(static_cast<Count>(equal), all_equal);
  if (head >= a.num_kv_heads) return;
  const Count rest = static_cast<Count>(a.layer_budget) - gotten;
  const Count left = before < rest ? rest - before : Count{0};
  a.budgets[head] = own + static_cast<int>(min(left, static_cast<Count>(equal)));
}

// One block.
__global__ void __launch_bounds__(kDecideThreads)
    DecideDigitKernel(HeadBudgetArguments a, int pass) {
  const Workspace workspace(a.workspace, a.num_kv_heads);
  const int digit = FindDigit(a, workspace, pass);
  const int head = static_cast<int>(threadIdx.x);
  if (head < a.num_kv_heads) {
    workspace.above[head] = workspace.not_below[head * kDigits + digit] -
                            workspace.CountsOf(pass, a.num_kv_heads, head)[digit];
  }
  if (threadIdx.x == 0) {
    const uint32_t prefix = pass == 0 ? 0 : *workspace.prefix;
    *workspace.prefix = prefix | static_cast<uint32_t>(digit) << ShiftOf(pass);
  }
  if (pass == kNumPasses - 1) ShareRest(a, workspace, digit);
}

}  // namespace

size_t HeadBudgetWorkspaceBytes(int num_kv_heads) {
  return static_cast<size_t>(((kNumPasses + 1) * kDigits + 1) * num_kv_heads + 1) * sizeof(int);
}

cudaError_t ShareBudget(cudaStream_t stream, const HeadBudgetArguments& a) {
  const size_t counts = static_cast<size_t>(kNumPasses * a.num_kv_heads * kDigits);
  cudaError_t error = cudaMemsetAsync(a.workspace, 0, counts * sizeof(int), stream);
  const dim3 grid(static_cast<unsigned>(DivideUp(a.num_candidates, kCandidatesPerBlock)),
                  static_cast<unsigned>(a.num_kv_heads));
  for (int pass = 0; pass < kNumPasses && error == cudaSuccess; ++pass) {
    error = Launch(stream, {grid, kCountThreads}, CountDigitsKernel, a, pass);
    if (error != cudaSuccess) return error;
    error = Launch(stream, {1, kDecideThreads}, DecideDigitKernel, a, pass);
  }
  return error;
}

}  // namespace kvec::kernels::cuda
