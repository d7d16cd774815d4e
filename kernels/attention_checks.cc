#include "kernels/attention_checks.h"

#include "absl/strings/str_cat.h"

namespace kvec::kernels {
namespace {

absl::Status CheckShape(Tensor qkv, const HeadShape& shape, const KvArena& arena) {
  if (shape.head_dim != arena.spec().head_dim) {
    return absl::InternalError(absl::StrCat("attention: head_dim ", shape.head_dim,
                                            ", the arena's is ", arena.spec().head_dim));
  }
  if (qkv.cols != shape.qkv_cols()) {
    return absl::InternalError(
        absl::StrCat("attention: qkv has ", qkv.cols, " columns, not ", shape.qkv_cols()));
  }
  if (shape.num_heads <= 0 || shape.num_kv_heads <= 0 || shape.group_size <= 0 ||
      shape.group_offset < 0 || shape.group_offset >= shape.group_size ||
      shape.KvHeadOf(shape.num_heads - 1) != shape.num_kv_heads - 1) {
    return absl::InternalError(absl::StrCat("attention: ", shape.num_heads, " heads in groups of ",
                                            shape.group_size, " from ", shape.group_offset,
                                            " do not fill ", shape.num_kv_heads, " KV heads"));
  }
  return absl::OkStatus();
}

absl::Status CheckSequence(const AttentionSequence& sequence, int num_rows,
                           const HeadShape& shape) {
  if (sequence.row_begin < 0 || sequence.num_rows < 0 ||
      sequence.row_begin > num_rows - sequence.num_rows) {
    return absl::InternalError(absl::StrCat("attention: rows ", sequence.row_begin, " + ",
                                            sequence.num_rows, " of ", num_rows));
  }
  if (sequence.heads.size() != static_cast<size_t>(shape.num_kv_heads)) {
    return absl::InternalError(absl::StrCat("attention: page tables of ", sequence.heads.size(),
                                            " KV heads, not ", shape.num_kv_heads));
  }
  for (const HeadPages& head : sequence.heads) {
    if (head.num_entries < sequence.num_rows) {
      return absl::InternalError(absl::StrCat("attention: num_entries ", head.num_entries, " with ",
                                              sequence.num_rows, " rows"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckAttentionBatch(Tensor qkv, const HeadShape& shape, const AttentionBatch& batch,
                                 const KvArena& arena) {
  if (absl::Status status = CheckShape(qkv, shape, arena); !status.ok()) return status;
  if (batch.sliding_window < 0) {
    return absl::InternalError(
        absl::StrCat("attention: sliding_window ", batch.sliding_window, " is negative"));
  }
  for (const AttentionSequence& sequence : batch.sequences) {
    if (absl::Status status = CheckSequence(sequence, qkv.rows, shape); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace kvec::kernels
