#ifndef KVEC_TESTS_CUSIM_WGMMA_H_
#define KVEC_TESTS_CUSIM_WGMMA_H_

// The PTX instructions of kernels/cuda/warpgroup.h and wgmma.h, as the PTX manual describes them.
// Included by include/cuda_runtime.h.
//
// A product happens when its warpgroup waits for it, and no earlier: who looks at D before finds
// NaN. What a real device leaves undefined is a fault: registers or shared memory written
// meanwhile, a missing wgmma.fence, copies that no fence.proxy.async shows to it.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "tests/cusim/builtins.h"
#include "tests/cusim/call_site.h"
#include "tests/cusim/device_calls.h"
#include "tests/cusim/matrix_descriptor.h"
#include "tests/cusim/product_math.h"
#include "tests/cusim/products.h"

namespace kvec::cusim {

inline PendingSum* FindSum(Products& products, const float* d) {
  for (PendingSum& sum : products.sums) {
    if (sum.d == d) return &sum;
  }
  return nullptr;
}

inline bool IsUntouched(const PendingSum& sum) {
  return std::all_of(sum.d, sum.d + sum.numbers.size(),
                     [](const float& number) { return CopyBits<uint32_t>(number) == ~0u; });
}

inline void BeginProduct(Product product, CallSite at) {
  Products& products = ProductsOf(ThreadOfWarpgroup());
  product.at = at;
  product.commit = products.num_commits;
  PendingSum* const sum = FindSum(products, product.d);
  if ((sum == nullptr || product.a_words != nullptr) && !products.fenced) {
    Fault("wgmma.mma_async without wgmma.fence after its registers could be touched", at);
  }
  const size_t size = static_cast<size_t>(product.columns) / 2;
  if (sum != nullptr && sum->numbers.size() != size) {
    Fault("products of different shapes add to the same registers", at);
  }
  if (product.a_words != nullptr) {
    std::copy_n(product.a_words, 4, product.a_begun);
  }
  if (sum == nullptr) {
    products.sums.push_back({product.d, {product.d, product.d + size}});
    std::memset(product.d, 0xFF, size * sizeof(float));
  }
  if (LaneId() == 0) product.shared_begun = ChecksumOfShared(product);  // one of a warp will do
  products.begun.push_back(product);
}

// All threads of a warpgroup must have begun the same products.
inline void CheckUniform(const Products& own, const Products& other, CallSite at) {
  const bool same =
      own.num_commits == other.num_commits &&
      std::equal(own.begun.begin(), own.begun.end(), other.begun.begin(), other.begun.end(),
                 [](const Product& a, const Product& b) {
                   return a.columns == b.columns && a.a_descriptor == b.a_descriptor &&
                          a.b_descriptor == b.b_descriptor && a.commit == b.commit &&
                          a.adds == b.adds && (a.a_words == nullptr) == (b.a_words == nullptr);
                 });
  if (!same) Fault("threads of a warpgroup have begun different products", at);
}

inline void CheckProduct(const Product& product) {
  if (product.a_words != nullptr &&
      !std::equal(product.a_words, product.a_words + 4, product.a_begun)) {
    Fault("registers of A were written before their product was waited for", product.at);
  }
  if (LaneId() == 0 && ChecksumOfShared(product) != product.shared_begun) {
    Fault("A or B in shared memory was written before their product was waited for", product.at);
  }
  if (product.a_words == nullptr && MatrixDescriptor(product.a_descriptor).has_unknown_bits()) {
    Fault("A's descriptor has unknown bits", product.at);
  }
  if (MatrixDescriptor(product.b_descriptor).has_unknown_bits()) {
    Fault("B's descriptor has unknown bits", product.at);
  }
}

// Puts sums that no product is to be added to any more where they belong.
inline void StoreSums(Products& products, CallSite at) {
  for (size_t i = 0; i < products.sums.size();) {
    const PendingSum& sum = products.sums[i];
    const bool is_pending = std::any_of(products.begun.begin(), products.begun.end(),
                                        [&](const Product& p) { return p.d == sum.d; });
    if (is_pending) {
      ++i;
      continue;
    }
    if (!IsUntouched(sum)) {
      Fault("registers of D were written before their product was waited for", at);
    }
    std::copy(sum.numbers.begin(), sum.numbers.end(), sum.d);
    products.sums.erase(products.sums.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

// For all but the last `prior` commits.
inline void WaitForProducts(size_t prior, CallSite at) {
  SyncWarpgroup(at);
  Products& products = ProductsOf(ThreadOfWarpgroup());
  CheckUniform(products, ProductsOf(0), at);
  size_t num_done = 0;
  while (num_done < products.begun.size() &&
         products.begun[num_done].commit + prior < products.num_commits) {
    const Product& product = products.begun[num_done];
    CheckProduct(product);
    std::vector<float>& d = FindSum(products, product.d)->numbers;
    if (product.is_bf16) {
      AddProduct<__nv_bfloat16>(product, num_done, d);
    } else {
      AddProduct<__half>(product, num_done, d);
    }
    ++num_done;
  }
  SyncWarpgroup(at);  // the others may still read
  products.begun.erase(products.begun.begin(),
                       products.begun.begin() + static_cast<std::ptrdiff_t>(num_done));
  StoreSums(products, at);
  products.fenced = false;
}

inline void BeginFromShared(bool is_bf16, float* d, uint64_t a, uint64_t b, bool adds,
                            CallSite at) {
  BeginProduct({.columns = 128,
                .is_bf16 = is_bf16,
                .adds = adds,
                .a_descriptor = a,
                .b_descriptor = b,
                .d = d},
               at);
}

template <size_t kSize>
void BeginFromRegisters(bool is_bf16, float (&d)[kSize], const uint32_t (&a)[4], uint64_t b,
                        CallSite at) {
  BeginProduct({.columns = kSize * 2,
                .is_bf16 = is_bf16,
                .adds = true,
                .b_along_n = true,
                .b_descriptor = b,
                .a_words = a,
                .d = d},
               at);
}

}  // namespace kvec::cusim

#define KVEC_SHARED_ADDRESS(pointer) \
  ::kvec::cusim::SharedAddress(pointer, ::kvec::cusim::CallSite::Current())
#define KVEC_MBARRIER_INIT(barrier, count) \
  ::kvec::cusim::InitBarrier(barrier, count, ::kvec::cusim::CallSite::Current())
#define KVEC_MBARRIER_ARRIVE(barrier) \
  ::kvec::cusim::ArriveAtBarrier(barrier, ::kvec::cusim::CallSite::Current())
#define KVEC_MBARRIER_TRY_WAIT(is_done, barrier, parity) \
  (::kvec::cusim::WaitAtBarrier(barrier, parity, ::kvec::cusim::CallSite::Current()), (is_done) = 1)
#define KVEC_WARPGROUP_SYNC(id) \
  ((void)(id), ::kvec::cusim::SyncWarpgroup(::kvec::cusim::CallSite::Current()))
#define KVEC_RAISE_REGISTERS(count) ((void)(count))
#define KVEC_LOWER_REGISTERS(count) ((void)(count))

#define KVEC_HAS_WGMMA
#define KVEC_PROXY_FENCE() ::kvec::cusim::FenceCopies()
#define KVEC_WGMMA_FENCE() \
  ::kvec::cusim::ProductsOf(::kvec::cusim::ThreadOfWarpgroup()).fenced = true
#define KVEC_WGMMA_COMMIT() \
  ++::kvec::cusim::ProductsOf(::kvec::cusim::ThreadOfWarpgroup()).num_commits
#define KVEC_WGMMA_WAIT(prior) \
  ::kvec::cusim::WaitForProducts(prior, ::kvec::cusim::CallSite::Current())
#define KVEC_PIN(number) ((void)(number))
#define KVEC_WGMMA_SHARED_128_F16(d, a, b, adds) \
  ::kvec::cusim::BeginFromShared(false, d, a, b, adds, ::kvec::cusim::CallSite::Current())
#define KVEC_WGMMA_SHARED_128_BF16(d, a, b, adds) \
  ::kvec::cusim::BeginFromShared(true, d, a, b, adds, ::kvec::cusim::CallSite::Current())
#define KVEC_WGMMA_REGISTERS_64_F16(d, a, b) \
  ::kvec::cusim::BeginFromRegisters(false, d, a, b, ::kvec::cusim::CallSite::Current())
#define KVEC_WGMMA_REGISTERS_64_BF16(d, a, b) \
  ::kvec::cusim::BeginFromRegisters(true, d, a, b, ::kvec::cusim::CallSite::Current())
#define KVEC_WGMMA_REGISTERS_128_F16(d, a, b) KVEC_WGMMA_REGISTERS_64_F16(d, a, b)
#define KVEC_WGMMA_REGISTERS_128_BF16(d, a, b) KVEC_WGMMA_REGISTERS_64_BF16(d, a, b)

#endif  // KVEC_TESTS_CUSIM_WGMMA_H_
