#include "kernels/cpu/append_kv.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "kernels/attention_checks.h"
#include "kernels/cpu/parallel_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/append_kv.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/hadamard-inl.h"
#include "kernels/cpu/int8_number-inl.h"
#include "kernels/cpu/kv_number-inl.h"
#include "kernels/cpu/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvec::kernels::cpu {
namespace HWY_NAMESPACE {

// Converts head_dim floats, a multiple of 8.
template <class Number>
HWY_INLINE void StoreHead(const float* from, int head_dim, typename Number::Stored* to) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 8> d8;
  const size_t size = static_cast<size_t>(head_dim);
  size_t i = 0;
  for (; i + hn::Lanes(d) <= size; i += hn::Lanes(d))
    Number::Store(d, hn::LoadU(d, from + i), to + i);
  for (; i < size; i += hn::Lanes(d8)) Number::Store(d8, hn::LoadU(d8, from + i), to + i);
}

// Stores the keys k[num_tokens], `stride` floats apart, as tokens offset … of a page.
template <class Number>
HWY_INLINE void StoreKeys(const float* k, int64_t stride, int num_tokens, int offset, int head_dim,
                          typename Number::Stored* page) {
  typename Number::Stored heads[kPageTokens * CpuKvArena::kMaxHeadDim];
  for (int token = 0; token < num_tokens; ++token) {
    StoreHead<Number>(k + token * stride, head_dim, heads + token * head_dim);
  }
  for (int dim = 0; dim < head_dim; ++dim) {
    for (int token = 0; token < num_tokens; ++token) {
      page[dim * kPageTokens + offset + token] = heads[token * head_dim + dim];
    }
  }
}

// Rows of one sequence that one page of a KV head takes.
struct PageRows {
  int32_t page;
  int offset;  // of the first token in the page
  int num_tokens;
  const float* k;  // [num_tokens, head_dim]
  const float* v;  // [num_tokens, head_dim]
  int64_t stride;  // between tokens, of both
};

template <class Number>
HWY_INLINE void StoreNumbers(const PageRows& rows, CpuKvArena& arena) {
  using Stored = typename Number::Stored;
  const int head_dim = arena.spec().head_dim;
  StoreKeys<Number>(rows.k, rows.stride, rows.num_tokens, rows.offset, head_dim,
                    reinterpret_cast<Stored*>(arena.keys(rows.page)));
  Stored* values = reinterpret_cast<Stored*>(arena.values(rows.page));
  for (int token = 0; token < rows.num_tokens; ++token) {
    StoreHead<Number>(rows.v + token * rows.stride, head_dim,
                      values + (rows.offset + token) * head_dim);
  }
}

HWY_INLINE void StoreInt8(const PageRows& rows, CpuKvArena& arena) {
  const size_t head_dim = static_cast<size_t>(arena.spec().head_dim);
  float rotated[CpuKvArena::kMaxHeadDim];
  int8_t numbers[CpuKvArena::kMaxHeadDim];
  for (int i = 0; i < rows.num_tokens; ++i) {
    const size_t token = static_cast<size_t>(rows.offset + i);
    RotateHead(rows.k + i * rows.stride, head_dim, 1.0f, rotated);
    arena.key_scales(rows.page)[token] = QuantizeHead(rotated, head_dim, numbers);
    uint8_t* to = arena.keys(rows.page) + 2 * token;
    for (size_t dim = 0; dim < head_dim; dim += 2, to += 2 * kPageTokens) {
      std::memcpy(to, numbers + dim, 2);
    }
    arena.value_scales(rows.page)[token] =
        QuantizeHead(rows.v + i * rows.stride, head_dim, numbers);
    to = arena.values(rows.page) + token / 2 * 2 * head_dim + token % 2;
    for (size_t dim = 0; dim < head_dim; ++dim) to[2 * dim] = static_cast<uint8_t>(numbers[dim]);
  }
}

// Stores rows [begin, end) of one sequence for one KV head.
void AppendRows(Tensor qkv, const HeadShape& shape, const int32_t* positions,
                const AttentionSequence& sequence, int kv_head, int begin, int end,
                CpuKvArena& arena) {
  const HeadPages& head = sequence.heads[static_cast<size_t>(kv_head)];
  const int first_entry = head.num_entries - sequence.num_rows;
  for (int row = begin; row < end;) {
    const int entry = first_entry + row;
    const int tensor_row = sequence.row_begin + row;
    const float* k = qkv.data + tensor_row * qkv.stride +
                     static_cast<int64_t>(shape.num_heads + kv_head) * shape.head_dim;
    const PageRows rows{.page = head.pages[entry / kPageTokens],
                        .offset = entry % kPageTokens,
                        .num_tokens = std::min(kPageTokens - entry % kPageTokens, end - row),
                        .k = k,
                        .v = k + static_cast<int64_t>(shape.num_kv_heads) * shape.head_dim,
                        .stride = qkv.stride};
    if (arena.spec().type == KvType::kInt8) {
      StoreInt8(rows, arena);
    } else {
      WithKvNumber(arena.spec().type, [&](auto number)
                                          HWY_ATTR { StoreNumbers<decltype(number)>(rows, arena); });
    }
    std::copy_n(positions + tensor_row, rows.num_tokens, arena.positions(rows.page) + rows.offset);
    row += rows.num_tokens;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvec::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvec::kernels::cpu {
namespace {

HWY_EXPORT(AppendRows);

}  // namespace

absl::Status AppendKv(ThreadPool& pool, Tensor qkv, const HeadShape& shape,
                      absl::Span<const int32_t> positions, const AttentionBatch& batch,
                      CpuKvArena& arena) {
  KVEC_RETURN_IF_ERROR(CheckAttentionBatch(qkv, shape, batch, arena));
  if (positions.size() != static_cast<size_t>(qkv.rows)) {
    return absl::InternalError(
        absl::StrCat("append_kv: ", positions.size(), " positions for ", qkv.rows, " rows"));
  }
  for (const AttentionSequence& sequence : batch.sequences) {
    ParallelRows(pool, sequence.num_rows, [&](int begin, int end) {
      for (int kv_head = 0; kv_head < shape.num_kv_heads; ++kv_head) {
        HWY_DYNAMIC_DISPATCH(AppendRows)
        (qkv, shape, positions.data(), sequence, kv_head, begin, end, arena);
      }
    });
  }
  return absl::OkStatus();
}

}  // namespace kvec::kernels::cpu
#endif  // HWY_ONCE
