export const EXPERIMENT = 'feature_ai_provider';
export const GATE = 'groq_r1_v_production';
