"""Data-free distillation: a student learns a teacher on images made from the teacher."""
